"""REMOTE COPIES: the newest checkpoints of a run, on any path that etils.epath knows.

Before: a checkpoint that counts. After: the same command on a machine whose disk has
nothing of the run. A run lives on a local disk, where renames are atomic and folders
can be locked; a copy is whole once its manifest, which goes last, is there. gs:// needs
the extra gcs, s3:// the extra s3.
"""

import json
from pathlib import Path
from typing import Any, Iterable

from etils import epath

from genlm.errors import UserError
from genlm.runs import checkpoint, directory

_SMALL = (
    "config.json model.json lineage.json metrics.jsonl samples.jsonl events.jsonl"
    " health.jsonl tokenizer/*"
).split()
_PARTIAL = ".partial"  # the end of a name, while it is written


def config(to: str) -> str | None:
    """The config.json of the run whose copy is there; None where there is none.

    Raises:
      UserError: a package is missing, or the place cannot be reached.
    """
    try:
        path = _root(to) / "config.json"
        return path.read_text() if path.exists() else None
    except Exception as error:  # each file system has its own
        raise UserError(f"checkpoint.copy_to={to}: {_why(error)}") from error


def push(workdir: Path, step: int, to: str) -> None:
    """Copy checkpoint `step` and what opens it; then drop the copies of those before it
    that the run keeps no more.

    Raises:
      UserError: it could not be written there.
    """
    try:
        _push_small(workdir, to)
        folder = checkpoint.root(workdir) / str(step)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            _copy(path, _root(to) / path.relative_to(workdir).as_posix())
        for path in _manifests(checkpoint.root(workdir).glob(f"{step}.*.json")):
            _copy(path, _root(to) / "checkpoints" / path.name)
        _drop_others(workdir, step, to)
    except Exception as error:  # each file system has its own
        raise UserError(f"cannot write {to}: {_why(error)}") from error


def push_missing(workdir: Path, to: str) -> None:
    """Copy what the run keeps and the copy lacks, and all but the checkpoints anew.

    Raises:
      UserError: it could not be written there.
    """
    try:
        there = _steps(to)
        _push_small(workdir, to)
    except Exception as error:  # each file system has its own
        raise UserError(f"cannot write {to}: {_why(error)}") from error
    for step in checkpoint.steps(workdir):
        if step not in there and not checkpoint.faults(workdir, step):
            push(workdir, step, to)
    try:
        _drop_others(workdir, checkpoint.steps(workdir)[-1], to)
    except Exception as error:  # each file system has its own
        raise UserError(f"cannot write {to}: {_why(error)}") from error


def pull(workdir: Path, to: str) -> None:
    """Fetch the checkpoints that are whole there into a `workdir` that has none.

    What makes them count, their manifests, comes last; damaged copies are dropped.

    Raises:
      UserError: it could not be read or written, or the copy is ahead of `workdir`.
    """
    try:
        there, here = _steps(to), checkpoint.steps(workdir)
        if here and there and there[-1] > here[-1]:
            raise UserError(
                f"{to} holds step {there[-1]} and {workdir} only {here[-1]}; delete"
                f" {checkpoint.root(workdir)} to go on from the copy, or take another"
                " checkpoint.copy_to"
            )
        if here or not there:
            return
        for path in (p for name in _SMALL for p in _root(to).glob(name)):
            if not path.name.endswith(_PARTIAL):
                _fetch(to, str(path.relative_to(_root(to))), workdir)
        manifests = {step: _fetch_files(to, step, workdir) for step in reversed(there)}
        for step, paths in manifests.items():
            for path in paths:
                _fetch(to, f"checkpoints/{path.name}", workdir)
            if not paths or checkpoint.faults(workdir, step):
                checkpoint.forget(workdir, step)
                _drop(to, step)
    except UserError:
        raise
    except Exception as error:  # each file system has its own
        raise UserError(f"cannot read {to}: {_why(error)}") from error


def _fetch_files(to: str, step: int, workdir: Path) -> list[Any]:
    """The manifests of `step`, once all is here that they name; none if one of them
    cannot be read."""
    manifests = _manifests(_root(to).glob(f"checkpoints/{step}.*.json"))
    for path in manifests:
        try:
            names = list(json.loads(path.read_text())["content"]["files"])
        except (ValueError, LookupError, TypeError):  # cut off in the writing
            return []
        if any(".." in Path(name).parts or Path(name).is_absolute() for name in names):
            return []
        for name in names:
            _fetch(to, f"checkpoints/{step}/{name}", workdir)
    return manifests


def _manifests(paths: Iterable[Any]) -> list[Any]:
    """That of process 0, by which a step exists, last."""
    return sorted(paths, key=lambda p: int(p.name.split(".")[1]), reverse=True)


def _push_small(workdir: Path, to: str) -> None:
    """Copy all but the checkpoints."""
    for path in (p for name in _SMALL for p in sorted(workdir.glob(name))):
        _copy(path, _root(to) / path.relative_to(workdir).as_posix())


def _root(to: str) -> Any:
    return epath.Path(to)


def _steps(to: str) -> list[int]:
    names = [path.name.split(".") for path in _root(to).glob("checkpoints/*.0.json")]
    return sorted(int(name[0]) for name in names if name[0].isdigit())


def _fetch(to: str, name: str, workdir: Path) -> None:
    path, local = _root(to) / name, workdir / name
    directory.create(local.parent)
    if path.exists():
        partial = local.with_name(local.name + _PARTIAL)
        partial.write_bytes(path.read_bytes())
        partial.replace(local)


def _copy(local: Path, path: Any) -> None:
    """A whole file or nothing, as an object store does by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "://" in str(path):
        path.write_bytes(local.read_bytes())
        return
    partial = path.with_name(path.name + _PARTIAL)
    partial.write_bytes(local.read_bytes())
    partial.replace(path)


def _drop_others(workdir: Path, step: int, to: str) -> None:
    """Drop the copies of steps before `step` that the run keeps no more; `pull` fetched
    those that it never had."""
    kept = checkpoint.steps(workdir)
    for old in (s for s in _steps(to) if s < step and s not in kept):
        _drop(to, old)


def _drop(to: str, step: int) -> None:
    for path in list(_root(to).glob(f"checkpoints/{step}.*.json")):
        path.unlink()  # first: now it is no copy
    (_root(to) / "checkpoints" / str(step)).rmtree(missing_ok=True)


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or repr(error)
