"""THE RUN DIRECTORY: a stage's whole result, opened by the next one.

  config.json     the resolved config                 model.json   the model's shape
  lineage.json    hashes of inputs and outputs        tokenizer/   as trained
  metrics.jsonl   what was measured, a line a time    samples.jsonl  what it wrote
  events.jsonl    what went wrong and was lived through
  health.jsonl    looks inside, see train.health
  checkpoints/    see runs.checkpoint    tensorboard/, wandb/   see runs.sinks
  adapter/        of an imported adapter, see interop.adapter
A finished stage is skipped; an unfinished one goes on; a changed setting is an error.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
import shutil
import threading
import time
from typing import Any, Callable, Iterator

from genlm.errors import UserError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: what was there stays until the new one is done."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def patiently(act: Callable[[], object], seconds: float) -> None:
    """Do `act`; where it cannot write, try again for `seconds`, a second apart."""
    last = time.monotonic() + seconds
    while True:
        try:
            act()
            return
        except (OSError, UserError):
            if time.monotonic() >= last:
                raise
            time.sleep(min(1.0, seconds))


class Growing:
    """A file that threads add rows to.

    Where the disk takes no more, or a part only, it goes on from there for `patience`
    seconds.

    Raises:
      UserError: it cannot be written.
    """

    def __init__(self, path: Path, patience: float = 0.0):
        self._path, self._patience = path, patience
        self._lock = threading.Lock()
        self._do(self._open)

    def add(self, data: bytes) -> None:
        rest = memoryview(data)

        def write() -> None:
            nonlocal rest
            while rest:
                rest = rest[self._file.write(rest) :]

        self._do(write)

    def sync(self) -> None:
        """Make sure that what was written outlives a loss of power."""
        self._do(lambda: os.fsync(self._file.fileno()))

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = open(self._path, "ab", buffering=0)

    def _do(self, act: Callable[[], object]) -> None:
        with self._lock:
            try:
                patiently(act, self._patience)
            except OSError as error:
                raise UserError(
                    f"cannot write {self._path}: {reason(error)}"
                ) from error


def create(workdir: Path) -> None:
    """Make the folder of a run.

    Raises:
      UserError: it cannot be made, or is a file.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {workdir}: {reason(error)}") from error
    if not os.access(workdir, os.W_OK):
        raise UserError(f"cannot write in {workdir}: permission denied")


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
      UserError: it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent} is not a finished run: no {path.name}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """The folder of a run, made if need be, and for this process alone.

    The kernel lets go when the process ends, however it ends. A folder that was made
    here and is still empty at the end (a mistake found before any work) goes again.

    Raises:
      UserError: another process works there.
    """
    is_new = not workdir.exists()
    create(workdir)
    folder = os.open(workdir, os.O_RDONLY)
    try:
        _lock(folder, workdir)
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):
                    workdir.rmdir()
    finally:
        os.close(folder)


def _lock(folder: int, workdir: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = workdir.exists() and os.fstat(folder).st_ino == workdir.stat().st_ino
    except BlockingIOError:
        free = False
    except OSError:  # some network file systems lock no folder: then nobody does
        free = True
    if not free:
        raise UserError(
            f"another process works in {workdir}; wait for it, or take another"
            " --workdir"
        )


@contextlib.contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` after the block.

    If the block or the exchange fails (a full disk, a wrong input, Ctrl-C), `folder` is
    as it was. After a kill between the exchange's two renames it stands beside, as
    .NAME.genlm-replaced, and the next call puts it back.

    Raises:
      UserError: the block could not write.
    """
    partial, replaced = (
        folder.with_name(f".{folder.name}.genlm-{what}")
        for what in ("partial", "replaced")
    )
    try:
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
        for path in (partial, replaced):
            shutil.rmtree(path, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        try:
            if folder.is_dir():
                folder.rename(replaced)
            partial.rename(folder)
        except BaseException:
            if replaced.exists() and not folder.exists():
                replaced.rename(folder)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {reason(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def reason(error: OSError) -> str:
    """Why something could not be written, in words."""
    return error.strerror or f"{error} (is the disk full?)"  # numpy gives counts only
