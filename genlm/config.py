"""CONFIG: a recipe file with overrides -> one nested ConfigDict -> dataclasses.

Before: the command line. After: the stages, which cut a config into sections and
hand each room a frozen dataclass. Configs are data: numbers, strings, booleans,
tuples and nested sections, so a resolved config is also a JSON file.
"""

import ast
import dataclasses
import difflib
import importlib.util
import json
from pathlib import Path
import sys
from typing import Any, Iterable, Mapping, TypeVar

from ml_collections import ConfigDict

from genlm.errors import UserError

T = TypeVar("T")


def load(reference: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The config of `FILE[:ARG]` with `--config.a.b=value` overrides applied.

    Raises:
      UserError: no such file, no get_config in it, an argument that it refuses, or
        an override that names no key or does not fit the key's type.
    """
    path, _, arg = reference.partition(":")
    config = _get_config(Path(path), arg)
    for override in overrides:
        _apply(config, override)
    return config


def _get_config(path: Path, arg: str) -> ConfigDict:
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.py")) or ["no .py file"]
        raise UserError(f"no config file {path}; beside it: {', '.join(near)}")
    project = Path(__file__).resolve().parents[1]
    for folder in (str(project), str(Path.cwd())):  # so that recipes find their parent
        if folder not in sys.path:
            sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{path} line {error.lineno}: {error.msg}") from error
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} has no get_config(arg='')")
    config = module.get_config(arg)
    config.lock()
    return config


def _apply(config: ConfigDict, override: str) -> None:
    """Set one `--config.a.b=value` in place; the key must exist."""
    name, equals, text = override.partition("=")
    if not name.startswith("--config.") or not equals:
        raise UserError(f"cannot read {override!r}; write --config.section.key=value")
    *sections, key = name.removeprefix("--config.").split(".")
    node = config
    for section in sections:
        node = _child(node, section, name)
        if not isinstance(node, ConfigDict):
            raise UserError(f"{name}: {section!r} is a value, not a section")
    old = _child(node, key, name)
    if isinstance(old, ConfigDict):
        raise UserError(f"{name} is a section; its keys: {', '.join(old)}")
    node[key] = _parse(text, old, name)


def _child(node: ConfigDict, key: str, name: str) -> Any:
    if key in node:
        return node[key]
    close = difflib.get_close_matches(key, list(node), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"keys: {', '.join(node)}"
    raise UserError(f"{name}: no key {key!r}; {hint}")


def _parse(text: str, old: Any, name: str) -> Any:
    """The value of `text`, of the type of `old` (an int is also a float)."""
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(old, tuple) and not isinstance(value, tuple):
        value = tuple(text.split(",")) if isinstance(value, str) else (value,)
    if isinstance(old, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(old):
        kind = type(old).__name__
        raise UserError(f"{name}={text}: expected {kind}, like {old!r}")
    return value


def to_dataclass(cls: type[T], section: Mapping[str, Any], **derived: Any) -> T:
    """`cls` from a config section and values that the caller derived.

    Lists and tuples become tuples. A key that `cls` lacks, or that it needs and does
    not get, is an error that names it.
    """
    assert dataclasses.is_dataclass(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {
        k: tuple(v) if isinstance(v, (list, tuple)) else v
        for k, v in {**dict(section), **derived}.items()
    }
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(f"{cls.__name__} has no {unknown}; it has {sorted(fields)}")
    needed = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    if missing := sorted(needed - set(values)):
        raise UserError(f"the config section of {cls.__name__} lacks {missing}")
    return cls(**values)


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, tuples as lists."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote, lists as tuples."""
    return ConfigDict(_tuples(json.loads(text)))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Dotted names of keys whose values differ (or stand in one only)."""
    a, b = flatten(old), flatten(new)
    return sorted(k for k in a.keys() | b.keys() if a.get(k, a) != b.get(k, b))


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{dotted name: value} of every leaf."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, ConfigDict):
            flat |= flatten(value, name + ".")
        else:
            flat[name] = value
    return flat
