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
import math
from pathlib import Path
import sys
import traceback
from typing import Any, Iterable, Mapping, TypeVar, get_args, get_origin

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
        apply(config, override)
    return config


def _get_config(path: Path, arg: str) -> ConfigDict:
    """What get_config(arg) of a recipe returns, locked against new keys."""
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.py"))
        near = difflib.get_close_matches(path.name, beside) or beside[:9]
        hint = f"beside it: {', '.join(near)}" if near else "no .py file stands there"
        raise UserError(f"no config file {path}; {hint}")
    project = Path(__file__).resolve().parents[1]
    for folder in (str(project), str(Path.cwd())):  # so that recipes find their parent
        if folder not in sys.path:
            sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError("it has no get_config(arg='')")
        config = module.get_config(arg)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except SyntaxError as error:
        where = error.filename if error.filename != spec.origin else path
        raise UserError(f"{where} line {error.lineno}: {error.msg}") from error
    except Exception as error:  # a recipe is code of its user, so this is their mistake
        line = _line(error, spec.origin)
        raise UserError(f"{path}{line}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise UserError(
            f"{path}: get_config gives {kind}, not ml_collections.ConfigDict"
        )
    config.lock()
    return config


def _line(error: Exception, file: str | None) -> str:
    """' line N' of `file`, where the error passed through it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == file]
    return f" line {lines[-1]}" if lines else ""


def apply(config: ConfigDict, override: str) -> None:
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
    if isinstance(old, tuple):
        return _parse_tuple(text, old, name)
    value = _literal(text)
    if isinstance(old, float) and type(value) is int:
        value = _float(value, name)
    if type(value) is not type(old):
        kind = type(old).__name__
        raise UserError(f"{name}={text}: expected {kind}, like {old!r}")
    return value


def _float(value: int, name: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UserError(f"{name} is too large a number") from error


def _parse_tuple(text: str, old: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """'a,b' or "('a', 'b')", each item of the type of the first of `old`."""
    value = _literal(text)
    if isinstance(value, (tuple, list)) and text.lstrip()[:1] in ("(", "["):
        items = [v if isinstance(v, str) else repr(v) for v in value]
    else:
        items = text.split(",")
    like = old[0] if old else ""
    return tuple(_parse(item, like, name) for item in items)


def _literal(text: str) -> Any:
    """A number, boolean or tuple that `text` spells; else `text` itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)


def require(config: ConfigDict, names: Iterable[str]) -> None:
    """Make sure that the dotted `names` of sections and keys stand in `config`.

    Raises:
      UserError: one does not (names it).
    """
    for name in names:
        node: Any = config
        for key in name.split("."):
            if not isinstance(node, ConfigDict) or key not in node:
                raise UserError(f"the config lacks {name}, which its stage reads")
            node = node[key]


def to_dataclass(cls: type[T], section: Mapping[str, Any], **derived: Any) -> T:
    """`cls` from a config section and values that the caller derived.

    Lists and tuples become tuples, and an int where a float is due a float. A key that
    `cls` lacks, that it needs and does not get, or a value of another type is an error
    that names it.
    """
    assert dataclasses.is_dataclass(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(section, (Mapping, ConfigDict)):
        raise UserError(f"the config section of {cls.__name__} is {section!r}, a value")
    values = {**dict(section), **derived}
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(f"{cls.__name__} has no {unknown}; it has {sorted(fields)}")
    needed = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    if missing := sorted(needed - set(values)):
        raise UserError(f"the config section of {cls.__name__} lacks {missing}")
    return cls(**{n: _typed(v, fields[n].type, cls, n) for n, v in values.items()})


def _typed(value: Any, kind: Any, cls: type, name: str) -> Any:
    """`value`, checked to be a `kind` where that is a simple type or a tuple of one; a
    float is finite."""
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(_typed(v, get_args(kind)[0], cls, name) for v in value)
    if kind is float and type(value) is int:
        return _float(value, f"{cls.__name__}.{name}")
    simple = kind in (int, float, bool, str) or get_origin(kind) is tuple
    if simple and type(value) is not kind:
        expected = getattr(kind, "__name__", kind)
        raise UserError(f"{cls.__name__}.{name} is {value!r}, expected {expected}")
    if kind is float and not math.isfinite(value):  # NaN passes most comparisons
        raise UserError(f"{cls.__name__}.{name} is {value}, not a finite number")
    return value


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, tuples as lists."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The config that `to_json` wrote, lists as tuples.

    Raises:
      ValueError: it is not the JSON of a config.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return ConfigDict(_tuples(value))


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
