"""REMOTE COPIES: the newest checkpoints of a run, on any path that etils.epath knows.

Before: a checkpoint that counts. After: the same command on a machine whose disk has
nothing of the run. A run lives on a local disk, where renames are atomic and folders
can be locked; a copy is whole once its manifest, which goes last, is there. gs:// needs
the extra gcs, s3:// the extra s3.
"""

import json
from pathlib import Path
import shutil
from typing import Any

from etils import epath

from genlm.errors import UserError
from genlm.runs import checkpoint, directory

_SMALL = (
    "config.json model.json lineage.json metrics.jsonl samples.jsonl events.jsonl"
    " health.jsonl tokenizer/*"
).split()


def require(to: str) -> None:
    """Make sure that there is a way to `to`.

    Raises:
      UserError: a package is missing, or the place cannot be reached.
    """
    try:
        _root(to).exists()
    except ImportError as error:
        raise UserError(f"checkpoint.copy_to={to}: {error}; pip install it") from error
    except Exception as error:  # each file system has its own
        raise UserError(f"checkpoint.copy_to={to}: {_why(error)}") from error


def push(workdir: Path, step: int, to: str) -> None:
    """Copy checkpoint `step` and what opens it; then drop the copies of those that the
    run keeps no more.

    Raises:
      UserError: it could not be written there.
    """
    try:
        push_small(workdir, to)
        folder = checkpoint.root(workdir) / str(step)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            _copy(path, _root(to) / path.relative_to(workdir).as_posix())
        for path in checkpoint.root(workdir).glob(f"{step}.*.json"):
            _copy(path, _root(to) / "checkpoints" / path.name)
        for old in set(_steps(to)) - set(checkpoint.steps(workdir)):
            _drop(to, old)
    except Exception as error:  # each file system has its own
        raise UserError(f"cannot write {to}: {_why(error)}") from error


def push_small(workdir: Path, to: str) -> None:
    """Copy all but the checkpoints."""
    for path in (p for name in _SMALL for p in sorted(workdir.glob(name))):
        _copy(path, _root(to) / path.relative_to(workdir).as_posix())


def pull(workdir: Path, to: str) -> None:
    """Fetch the newest checkpoint that is whole into a `workdir` that has none.

    Raises:
      UserError: it could not be read or written.
    """
    if checkpoint.steps(workdir) or not _root(to).exists():
        return
    try:
        for step in reversed(_steps(to)):
            manifests = _glob(to, f"checkpoints/{step}.*.json")
            for path in manifests:
                for name in json.loads(path.read_text())["content"]["files"]:
                    _fetch(to, f"checkpoints/{step}/{name}", workdir)
            for path in manifests:
                _fetch(to, f"checkpoints/{path.name}", workdir)
            if not checkpoint.faults(workdir, step):
                for path in (p for name in _SMALL for p in _glob(to, name)):
                    _fetch(to, str(path.relative_to(_root(to))), workdir)
                return
            shutil.rmtree(checkpoint.root(workdir))
    except UserError:
        raise
    except Exception as error:  # each file system has its own
        shutil.rmtree(checkpoint.root(workdir), ignore_errors=True)
        raise UserError(f"cannot read {to}: {_why(error)}") from error


def _root(to: str) -> Any:
    return epath.Path(to)


def _steps(to: str) -> list[int]:
    names = [path.name.split(".") for path in _glob(to, "checkpoints/*.0.json")]
    return sorted(int(name[0]) for name in names if name[0].isdigit())


def _glob(to: str, pattern: str) -> list[Any]:
    return sorted(_root(to).glob(pattern))


def _fetch(to: str, name: str, workdir: Path) -> None:
    path, local = _root(to) / name, workdir / name
    directory.create(local.parent)
    if path.exists():
        local.write_bytes(path.read_bytes())


def _copy(local: Path, path: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(local.read_bytes())


def _drop(to: str, step: int) -> None:
    for path in _glob(to, f"checkpoints/{step}.*.json"):  # first: now it is no copy
        path.unlink()
    (_root(to) / "checkpoints" / str(step)).rmtree()


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or repr(error)
