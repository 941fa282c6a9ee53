"""SAVING: checkpoints written by Orbax in the background, counted only when proven.

Before: the training loop. After: runs.checkpoint, which finds and opens them. Orbax
writes into a temporary folder and renames it; the manifest comes after that, and after
a finite loss and gradient norm were computed from the parameters (`confirm`).
"""

from concurrent.futures import Future, ThreadPoolExecutor
import math
from pathlib import Path
import re
import shutil
import sys
import time
from typing import Any, Callable

import jax
import orbax.checkpoint as ocp

from genlm.errors import UserError
from genlm.parallel import hosts
from genlm.runs import checkpoint, directory, lineage

_PAUSE = 5.0  # seconds between two tries where a save fails
# Orbax fills files of 2 GiB in memory before it writes them, and packs whole arrays.
_FILE_BYTES = 64 << 20
_CHUNK_BYTES = 32 << 20


def _arguments(tree: Any) -> ocp.args.PyTreeSave:
    """How a tree is written: in pieces, so that little of it is in memory twice."""
    chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES), tree)
    return ocp.args.PyTreeSave(
        tree, save_args=chunks, ocdbt_target_data_file_size=_FILE_BYTES
    )


def _unraisable(unraisable: Any, show: Any = sys.unraisablehook) -> None:
    """After a write fails, TensorStore's other writes find Orbax's event loop closed,
    and Python would print a traceback for each of them."""
    if str(unraisable.exc_value) != "Event loop is closed":
        show(unraisable)


sys.unraisablehook = _unraisable


class Checkpoints:
    """Saves the steps of one run; a context manager that waits for the last one.

    A save that fails (a full disk) is owed: the loop saves again, a later step, until
    `patience` seconds have passed since the first failure in a row. `on_failure` is
    told each; `on_commit`, in the thread that writes, each step that counts. A step of
    which `is_held` says so is not deleted yet.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        start_step: int,
        keep_last: int,
        keep_best: bool,
        keep_every: int = 0,
        patience: float = 0.0,
        on_failure: Callable[[int, str], None] = lambda step, why: None,
        on_commit: Callable[[int], None] = lambda step: None,
        is_held: Callable[[int], bool] = lambda step: False,
    ):
        self.workdir = workdir
        self._keep_last, self._keep_best = keep_last, keep_best
        self._keep_every = keep_every
        self._patience, self._on_failure = patience, on_failure
        self._on_commit, self._is_held = on_commit, is_held
        self._failing_since: float | None = None
        self._again_at = math.inf  # when to save again after a failure
        checkpoint.root(workdir).mkdir(parents=True, exist_ok=True)
        self._checkpointer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._thread = ThreadPoolExecutor(1)
        self._pending: tuple[int, float | None, int] | None = None
        self._writing: Future[tuple[int, Exception] | None] | None = None
        if hosts.is_first():
            self._sweep(start_step)
        hosts.meet("old checkpoints are gone")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self._patience = 0.0  # what fails now is not tried again
                self.wait()
            elif self._writing is not None:
                self._writing.exception()
        finally:
            self._thread.shutdown()
            try:
                self._checkpointer.close()
            except Exception as error:  # a save that nobody waited for any more
                if kind is None:
                    raise _as_user_error(
                        checkpoint.root(self.workdir), error
                    ) from error

    def save(
        self,
        step: int,
        items: dict[str, Any],
        valid_loss: float | None = None,
        tokens: int = 0,
    ) -> None:
        """Begin to write `items`; they may be donated as soon as this returns.

        Args:
          tokens: trained on so far.
        """
        self.wait()
        path = checkpoint.root(self.workdir) / str(step)
        arguments = {name: _arguments(tree) for name, tree in items.items()}
        self._again_at = math.inf
        try:
            self._checkpointer.save(
                path.resolve(), args=ocp.args.Composite(**arguments), force=True
            )
            self._pending = (step, valid_loss, tokens)
        except Exception as error:  # Orbax wraps what the disk says in several types
            self._note_failure(step, error)

    def is_owed(self) -> bool:
        """Whether a save failed and it is time for another."""
        if self._writing is not None and self._writing.done():
            self.wait()
        return time.monotonic() >= self._again_at

    def written(self) -> bool:
        """Wait until the files of the save before are there; whether they are."""
        self.wait()
        if self._pending is None:
            return False
        try:
            self._checkpointer.wait_until_finished()
        except Exception as error:  # Orbax wraps what the disk says in several types
            step = self._pending[0]
            self._pending = None
            self._note_failure(step, error)
        return self._pending is not None

    def confirm(self, step: int) -> None:
        """A finite loss and gradient came from the parameters of `step`: what was saved
        then, or before steps that changed nothing, counts once it is written."""
        if self._pending is not None and self._pending[0] <= step:
            pending, self._pending = self._pending, None
            self._writing = self._thread.submit(self._commit, *pending)

    def wait(self) -> None:
        """Return when nothing is being written.

        Raises:
          UserError: no checkpoint could be written for `patience` seconds.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            failure = writing.result()
            if failure is None:
                self._failing_since, self._again_at = None, math.inf
            else:
                self._note_failure(*failure)

    def _note_failure(self, step: int, error: Exception) -> None:
        """Note a save that failed.

        Raises:
          UserError: there is no patience left.
        """
        now = time.monotonic()
        known = _as_user_error(checkpoint.root(self.workdir) / str(step), error)
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience:
            raise known from error
        self._on_failure(step, str(known))
        self._again_at = now + min(_PAUSE, self._patience)
        self._drop_unfinished()

    def _commit(
        self, step: int, valid_loss: float | None, tokens: int
    ) -> tuple[int, Exception] | None:
        """Make the step count; (step, why) where its files could not be written."""
        path = checkpoint.root(self.workdir) / str(step)
        try:
            self._checkpointer.wait_until_finished()
            process = jax.process_index()
            content = {
                "step": step,
                "valid_loss": valid_loss,
                "tokens": tokens,
                "processes": jax.process_count(),
                "files": {
                    str(p.relative_to(path)): lineage.sha256(p)
                    for p in sorted(path.rglob("*"))
                    if p.is_file() and _owner(p.relative_to(path)) == process
                },
            }
            manifest = {"content": content, "digest": lineage.digest(content)}
            place = checkpoint.manifest_path(self.workdir, step, process)
            directory.patiently(
                lambda: directory.write_json(place, manifest), self._patience
            )
        except Exception as error:  # Orbax wraps what the disk says in several types
            return step, error
        self._on_commit(step)
        self.collect()
        return None

    def collect(self) -> None:
        """Delete all but the last few, the best, and every so many steps one."""
        if not hosts.is_first():
            return
        have = checkpoint.steps(self.workdir)
        kept = set(have[-self._keep_last :])
        if self._keep_every:
            kept |= {s for s in have if s % self._keep_every == 0}
        if self._keep_best and have:
            kept.add(min(have, key=lambda s: (checkpoint.score(self.workdir, s), -s)))
        for step in set(have) - kept:
            if not self._is_held(step):
                checkpoint.forget(self.workdir, step)

    def _sweep(self, start_step: int) -> None:
        """Delete what a killed save left behind, and what the run will write again."""
        have = set(checkpoint.steps(self.workdir))
        for step in (s for s in have if s > start_step):
            checkpoint.forget(self.workdir, step)
        self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Delete the folders of saves that do not count; others are not ours."""
        have = {str(s) for s in checkpoint.steps(self.workdir)}
        for path in checkpoint.root(self.workdir).iterdir():
            is_ours = re.fullmatch(r"\d+(\.orbax-checkpoint-tmp.*)?", path.name)
            if is_ours and path.is_dir() and path.name not in have:
                shutil.rmtree(path, ignore_errors=True)


def _owner(name: Path) -> int:
    """The process that wrote a file: the one its folder names, else the first."""
    for part in name.parts:
        if part.startswith("ocdbt.process_"):
            return int(part.removeprefix("ocdbt.process_"))
    return 0


def _as_user_error(path: Path, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return UserError(f"cannot write {path}: {directory.reason(error)}")
    text = " ".join(str(error).split()) or repr(error)
    said = re.search(r"([^:]+) \[os_error_code", text)  # at the end of TensorStore's
    return UserError(f"cannot write {path}: {said[1].strip() if said else text[:200]}")
