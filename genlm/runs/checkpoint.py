"""CHECKPOINTS: written by Orbax in the background, counted only when proven.

checkpoints/<step>/ holds two items: params (all that inference needs) and state (the
rest). Orbax writes into a temporary folder and renames it. A step *exists* once its
manifest checkpoints/<step>.<process>.json stands beside it: hashes of every file,
written after Orbax committed AND after a finite loss and gradient norm were computed
from its parameters (`confirm`). A checkpoint whose files do not match its manifest is
said and passed over for the one before.
"""

from concurrent.futures import Future, ThreadPoolExecutor
import logging
import math
from pathlib import Path
import re
import shutil
import sys
import time
from typing import Any, Callable

from flax import traverse_util
import jax
import orbax.checkpoint as ocp

from genlm.errors import UserError
from genlm.runs import directory, lineage

_PAUSE = 5.0  # seconds between two tries where a save fails

for name in ("absl", "asyncio"):  # where Orbax logs what it raises too
    logging.getLogger(name).setLevel(logging.CRITICAL)


def _unraisable(unraisable: Any, show: Any = sys.unraisablehook) -> None:
    """After a write fails, TensorStore's other writes find Orbax's event loop closed,
    and Python would print a traceback for each of them."""
    if str(unraisable.exc_value) != "Event loop is closed":
        show(unraisable)


sys.unraisablehook = _unraisable


def root(workdir: Path) -> Path:
    """The folder of a run's checkpoints."""
    return workdir / "checkpoints"


def steps(workdir: Path) -> list[int]:
    """Steps that have a manifest, in order."""
    names = [p.name.split(".") for p in root(workdir).glob("*.0.json")]
    return sorted(int(n[0]) for n in names if n[0].isdigit())


def manifest(workdir: Path, step: int, process: int = 0) -> dict[str, Any]:
    """The manifest of one process's files of a step."""
    return directory.read_json(_manifest_path(workdir, step, process))


def faults(workdir: Path, step: int) -> list[str]:
    """What is wrong with a checkpoint, a line each; [] if every file is as written."""
    try:
        first = manifest(workdir, step)
        others = range(1, first["content"]["processes"])
        manifests = [first] + [manifest(workdir, step, p) for p in others]
        found = []
        for number, each in enumerate(manifests):
            if lineage.digest(each["content"]) != each["digest"]:
                found.append(f"{_manifest_path(workdir, step, number)}: changed")
            found += _wrong_files(root(workdir) / str(step), each["content"]["files"])
        return found
    except (UserError, KeyError, TypeError, AttributeError) as error:
        return [f"checkpoint {step}: manifest not readable ({error})"]


def _wrong_files(folder: Path, files: dict[str, str]) -> list[str]:
    found = []
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path}: missing")
        elif lineage.sha256(path) != expected:
            found.append(f"{path}: changed")
    return found


def newest(workdir: Path) -> int | None:
    """The newest step that is whole; says on stderr which ones it passed over."""
    for step in reversed(steps(workdir)):
        wrong = faults(workdir, step)
        if not wrong:
            return step
        print(f"checkpoint {step} is damaged, not used: {wrong[0]}", file=sys.stderr)
    return None


def best(workdir: Path) -> int | None:
    """The whole step with the lowest validation loss, if any was measured."""
    scored = [(_score(workdir, s), s) for s in steps(workdir)]
    for score, step in sorted(scored):
        if score < math.inf and not faults(workdir, step):
            return step
    return None


def _score(workdir: Path, step: int) -> float:
    try:
        loss = manifest(workdir, step)["content"]["valid_loss"]
    except (UserError, KeyError, TypeError):
        return math.inf
    return math.inf if loss is None else loss


def tokens(workdir: Path, step: int) -> int:
    """How many tokens the run had trained on by `step`."""
    return manifest(workdir, step)["content"]["tokens"]


def forget(workdir: Path, step: int) -> None:
    """Delete checkpoint `step`, its manifests first."""
    for path in root(workdir).glob(f"{step}.*.json"):
        path.unlink()
    shutil.rmtree(root(workdir) / str(step), ignore_errors=True)


def restore(workdir: Path, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
    """Items of a step ('params', 'state'), in the shapes and shardings of `abstract`.

    Raises:
      UserError: its parameters are those of another model, or its state has another
        form.
    """
    path = (root(workdir) / str(step)).resolve()
    _check_shapes(path / "params", abstract["params"])
    items = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        try:
            restored = checkpointer.restore(path, args=ocp.args.Composite(**items))
        except (ValueError, KeyError) as error:  # Orbax, of trees that differ
            if "state" not in abstract:
                raise
            why = (str(error).strip().split("\n") or [""])[0][:120]
            raise UserError(
                f"{path}: its optimizer's state has another form, such as that of"
                f" another version of genlm or optax (see lineage.json): {why}"
            ) from error
    return {name: restored[name] for name in abstract}


def _check_shapes(path: Path, abstract: Any) -> None:
    """Orbax would say it too, after it has begun reads that complain at exit."""
    stored = ocp.StandardCheckpointHandler().metadata(path).tree
    have, asked = (
        {k: tuple(x.shape) for k, x in traverse_util.flatten_dict(t, sep="/").items()}
        for t in (stored, abstract)
    )
    for name in sorted(have.keys() | asked.keys()):
        if have.get(name) != asked.get(name):
            raise UserError(
                f"{path}: {name} has shape {have.get(name)}, and model.json asks for"
                f" {asked.get(name)}"
            )


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
        root(workdir).mkdir(parents=True, exist_ok=True)
        self._checkpointer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._thread = ThreadPoolExecutor(1)
        self._pending: tuple[int, float | None, int] | None = None
        self._writing: Future[tuple[int, Exception] | None] | None = None
        if jax.process_index() == 0:
            self._sweep(start_step)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self._patience = 0.0  # what fails now is not tried again
                self.wait()
                if jax.process_index() == 0:
                    self._collect()  # what was held before
            elif self._writing is not None:
                self._writing.exception()
        finally:
            self._thread.shutdown()
            try:
                self._checkpointer.close()
            except Exception as error:  # a save that nobody waited for any more
                if kind is None:
                    raise _as_user_error(root(self.workdir), error) from error

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
        path = root(self.workdir) / str(step)
        arguments = {k: ocp.args.StandardSave(v) for k, v in items.items()}
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
        known = _as_user_error(root(self.workdir) / str(step), error)
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
        path = root(self.workdir) / str(step)
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
            place = _manifest_path(self.workdir, step, process)
            directory.patiently(
                lambda: directory.write_json(place, manifest), self._patience
            )
        except Exception as error:  # Orbax wraps what the disk says in several types
            return step, error
        self._on_commit(step)
        if process == 0:
            self._collect()
        return None

    def _collect(self) -> None:
        """Delete all but the last few, the best, and every so many steps one."""
        have = steps(self.workdir)
        kept = set(have[-self._keep_last :])
        if self._keep_every:
            kept |= {s for s in have if s % self._keep_every == 0}
        if self._keep_best and have:
            kept.add(min(have, key=lambda s: (_score(self.workdir, s), -s)))
        for step in set(have) - kept:
            if not self._is_held(step):
                forget(self.workdir, step)

    def _sweep(self, start_step: int) -> None:
        """Delete what a killed save left behind, and what the run will write again."""
        have = set(steps(self.workdir))
        for step in (s for s in have if s > start_step):
            forget(self.workdir, step)
        self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Delete the folders of saves that do not count; others are not ours."""
        have = {str(s) for s in steps(self.workdir)}
        for path in root(self.workdir).iterdir():
            is_ours = re.fullmatch(r"\d+(\.orbax-checkpoint-tmp.*)?", path.name)
            if is_ours and path.is_dir() and path.name not in have:
                shutil.rmtree(path, ignore_errors=True)


def _manifest_path(workdir: Path, step: int, process: int) -> Path:
    return root(workdir) / f"{step}.{process}.json"


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
