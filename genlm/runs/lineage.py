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
from typing import Any, Callable, Iterable

import genlm
from genlm.errors import UserError
from genlm.runs import directory, packages
from genlm.runs.progress import Bar

_PACKAGES = "jax jaxlib flax optax orbax-checkpoint grain sentencepiece numpy".split()

_BLOCK = 1 << 20  # bytes
_SHOWN = 1 << 30  # bytes that take a second or more to hash


def sha256(path: Path, read: Callable[[int], None] = lambda num_bytes: None) -> str:
    """Hex digest of a file, read in blocks; `read` is told the size of each.

    Raises:
      UserError: it cannot be read.
    """
    found, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    try:
        with open(path, "rb", buffering=0) as file:
            while num_bytes := file.readinto(block):
                found.update(block[:num_bytes])
                read(num_bytes)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return found.hexdigest()


def hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """{path: sha256} of files; of many bytes with progress shown.

    Raises:
      UserError: one cannot be read.
    """
    sizes = {path: path.stat().st_size if path.exists() else 0 for path in paths}
    total, done = sum(sizes.values()), 0
    if total < _SHOWN:
        return {path: sha256(path) for path in sizes}
    with Bar("hash", total, unit="bytes") as bar:

        def read(num_bytes: int) -> None:
            nonlocal done
            done += num_bytes
            bar.update(done)

        return {path: sha256(path, read) for path in sizes}


def of_inputs(paths: Iterable[Path], known: dict[str, Any]) -> dict[str, Any]:
    """{path: {sha256, bytes, modified_ns}}; a file whose size and time are as `known`
    is not read again."""
    entries, unread = {}, []
    for path in paths:
        stat = path.stat()
        entry = {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
        old = known.get(str(path), {})
        if not all(old.get(k) == v for k, v in entry.items()):
            unread.append(path)
        entries[path] = {"sha256": old.get("sha256"), **entry}
    for path, digest_ in hashes(unread).items():
        entries[path]["sha256"] = digest_
    return {str(path): entry for path, entry in entries.items()}


def of_outputs(workdir: Path, names: Iterable[str]) -> dict[str, str]:
    """{path within the run: sha256} of named files and of those in named folders."""
    files: list[Path] = []
    for name in names:
        path = workdir / name
        files += sorted(p for p in path.rglob("*") if p.is_file()) or [path]
    return {str(f.relative_to(workdir)): h for f, h in hashes(files).items()}


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
    expected = {workdir / name: each for name, each in outputs.items()}
    now = hashes(path for path in expected if path.exists())
    found = []
    for path, each in expected.items():
        if path not in now:
            found.append(f"{path}: missing")
        elif now[path] != each:
            found.append(f"{path}: changed since it was written")
    return found


def missing_inputs(workdir: Path) -> int:
    """How many of its inputs are not where they were read."""
    return sum(not Path(name).exists() for name in read(workdir).get("inputs", {}))


def _changed_inputs(inputs: dict[str, Any]) -> list[str]:
    """What was read and is another now; a text may be gone once it was prepared."""
    expected = {Path(name): entry["sha256"] for name, entry in inputs.items()}
    now = hashes(path for path in expected if path.is_file())
    now |= {p: digest(read(p).get("outputs")) for p in expected if p.is_dir()}
    return [
        f"{path}: changed since it was read"
        for path, each in expected.items()
        if path in now and now[path] != each
    ]
