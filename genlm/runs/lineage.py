"""LINEAGE: which bytes a run was made from, and which it made.

`lineage.json` holds {"inputs": {path: {sha256, bytes, modified_ns}}, "outputs": {path:
sha256}, "code", "packages", "python"}. It is written last: a stage with outputs in its
lineage is finished. `verify` reads everything again.
"""

import hashlib
import json
from pathlib import Path
import platform
import subprocess
from typing import Any, Iterable

import genlm
from genlm.errors import UserError
from genlm.runs import directory, packages

_PACKAGES = "jax jaxlib flax optax orbax-checkpoint grain sentencepiece numpy".split()


def sha256(path: Path) -> str:
    """Hex digest of a file, read in blocks.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def of_inputs(paths: Iterable[Path], known: dict[str, Any]) -> dict[str, Any]:
    """{path: {sha256, bytes, modified_ns}}; a file whose size and time are as `known`
    is not read again."""
    entries = {}
    for path in paths:
        stat = path.stat()
        entry = {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
        old = known.get(str(path), {})
        same = all(old.get(k) == v for k, v in entry.items())
        entries[str(path)] = {
            "sha256": old["sha256"] if same else sha256(path),
            **entry,
        }
    return entries


def of_outputs(workdir: Path, names: Iterable[str]) -> dict[str, str]:
    """{path within the run: sha256} of named files and of those in named folders."""
    files: list[Path] = []
    for name in names:
        path = workdir / name
        files += sorted(p for p in path.rglob("*") if p.is_file()) or [path]
    return {str(f.relative_to(workdir)): sha256(f) for f in files}


def write(workdir: Path, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
    """Write lineage.json, which makes the stage a finished one."""
    content = {
        "inputs": inputs,
        "outputs": outputs,
        "code": code_version(),
        "packages": {n: packages.version(n) or "not installed" for n in _PACKAGES},
        "python": platform.python_version(),
    }
    directory.write_json(workdir / "lineage.json", content)


def read(workdir: Path) -> dict[str, Any]:
    """The lineage of a run, or {} where there is none.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / "lineage.json"
    if not path.exists():
        return {}
    content = directory.read_json(path)
    if not isinstance(content, dict) or not {"inputs", "outputs"} <= content.keys():
        raise UserError(f"{path} is damaged: no inputs and outputs in it")
    return content


def code_version() -> str:
    """The version of genlm, with the commit where it runs from a git checkout."""
    project = Path(__file__).resolve().parents[2]
    version = genlm.__version__
    if not (project / ".git").exists():
        return version
    command = ["git", "-C", str(project), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return version
    return f"{version}+{done.stdout.strip()}" if done.returncode == 0 else version


def digest(value: Any) -> str:
    """sha256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def faults(workdir: Path) -> list[str]:
    """What is not as lineage.json says, a line each; [] if all is well."""
    lineage = read(workdir)
    if not lineage:
        return [f"{workdir}: no lineage.json, so no finished stage"]
    return changed(workdir, lineage["outputs"]) + _changed_inputs(lineage["inputs"])


def changed(workdir: Path, outputs: dict[str, str]) -> list[str]:
    """Which of {path within the run: sha256} are gone or changed, a line each."""
    found = []
    for name, expected in outputs.items():
        path = workdir / name
        if not path.exists():
            found.append(f"{path}: missing")
        elif sha256(path) != expected:
            found.append(f"{path}: changed since it was written")
    return found


def _changed_inputs(inputs: dict[str, Any]) -> list[str]:
    """What was read and is another now; a text may be gone once it was prepared."""
    found = []
    for name, entry in inputs.items():
        path = Path(name)
        if path.is_dir():
            now = digest(read(path).get("outputs"))
        elif path.is_file():
            now = sha256(path)
        else:
            continue
        if now != entry["sha256"]:
            found.append(f"{path}: changed since it was read")
    return found
