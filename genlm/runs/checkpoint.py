"""CHECKPOINTS: which of a run's count, which are whole, and how one is opened.

Before: runs.saving. After: training that goes on, generation, evaluation.
checkpoints/<step>/ holds two items: params (all that inference needs) and state (the
rest). A step *exists* once its manifest checkpoints/<step>.<process>.json stands beside
it, a hash of every file. A checkpoint whose files do not match its manifest is said and
passed over for the one before.
"""

import logging
import math
from pathlib import Path
import shutil
import sys
from typing import Any

from flax import traverse_util
import orbax.checkpoint as ocp

from genlm.errors import UserError
from genlm.runs import directory, lineage

for name in ("absl", "asyncio"):  # where Orbax logs what it raises too
    logging.getLogger(name).setLevel(logging.CRITICAL)


def root(workdir: Path) -> Path:
    """The folder of a run's checkpoints."""
    return workdir / "checkpoints"


def steps(workdir: Path) -> list[int]:
    """Steps that have a manifest, in order."""
    names = [p.name.split(".") for p in root(workdir).glob("*.0.json")]
    return sorted(int(n[0]) for n in names if n[0].isdigit())


def manifest(workdir: Path, step: int, process: int = 0) -> dict[str, Any]:
    """The manifest of one process's files of a step."""
    return directory.read_json(manifest_path(workdir, step, process))


def faults(workdir: Path, step: int) -> list[str]:
    """What is wrong with a checkpoint, a line each; [] if every file is as written."""
    try:
        first = manifest(workdir, step)
        others = range(1, first["content"]["processes"])
        manifests = [first] + [manifest(workdir, step, p) for p in others]
        found = []
        for number, each in enumerate(manifests):
            if lineage.digest(each["content"]) != each["digest"]:
                found.append(f"{manifest_path(workdir, step, number)}: changed")
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
    scored = [(score(workdir, s), s) for s in steps(workdir)]
    for loss, step in sorted(scored):
        if loss < math.inf and not faults(workdir, step):
            return step
    return None


def score(workdir: Path, step: int) -> float:
    """The validation loss of a step; infinity if none is known."""
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


def manifest_path(workdir: Path, step: int, process: int) -> Path:
    """Where the manifest of one process's files of a step is."""
    return root(workdir) / f"{step}.{process}.json"
