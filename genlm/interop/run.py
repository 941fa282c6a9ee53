"""A RUN OPENED AS A MODEL: from its directory alone, with no config file at hand."""

import dataclasses
from pathlib import Path
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp

from genlm import tokenizer as tokenizers
from genlm.errors import UserError
from genlm.interop import trained
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding, specs
from genlm.runs import checkpoint, directory, lineage
from genlm.tokenizer.base import Tokenizer


class Opened(NamedTuple):
    """A trained model: what `decode.generate` needs, and the step it is from. A change
    of another run's model is merged into it."""

    params: Any
    config: TransformerConfig
    tokenizer: Tokenizer
    step: int


def save_model(workdir: Path, config: TransformerConfig, tokenizer: Tokenizer) -> None:
    """Write what `open_run` needs beside the checkpoints."""
    with directory.filling(workdir / "tokenizer") as folder:
        tokenizer.save(folder)
    directory.write_json(workdir / "model.json", dataclasses.asdict(config))


def read_config(folder: Path) -> TransformerConfig:
    """The shape of the model in a run's folder.

    Raises:
      UserError: its model.json is not there, or describes none (names it).
    """
    path = folder / "model.json"
    fields = directory.read_json(path)
    try:
        return config_of(fields)
    except UserError as error:
        raise UserError(f"{path} {error}") from error


def config_of(fields: Any) -> TransformerConfig:
    """The shape that the contents of a model.json describe.

    Raises:
      UserError: they describe none.
    """
    try:
        return TransformerConfig(**fields)
    except (TypeError, UserError) as error:
        raise UserError(
            f"is damaged, or of another version of genlm: {error}"
        ) from error


def find(path: Path) -> Path:
    """The run directory that holds a model: `path`, or the last such stage of a life.

    Raises:
      UserError: there is none.
    """
    if (path / "model.json").exists():
        return path
    if not path.is_dir():
        raise UserError(f"no directory {path}")
    life = path / "config.json"
    config = directory.read_json(life) if life.exists() else {}
    stages = config.get("stages", []) if isinstance(config, dict) else []
    for name in reversed(stages):
        if (path / name / "model.json").exists():
            return path / name
    raise UserError(f"{path} holds no model: no model.json in it or in its stages")


def open_run(path: Path, which: str = "last") -> Opened:
    """The model of a run directory.

    Args:
      which: 'last', 'best' (lowest validation loss), a step, or 'mean:K', the mean of
        the last K (arXiv:2209.14981).

    Raises:
      UserError: no such checkpoint, or none is whole.
    """
    return _open(find(path), which)[0]


def open_head(path: Path, which: str = "last") -> tuple[Opened, HeadConfig, Any]:
    """The model of a run directory, its head and the head's parameters.

    Raises:
      UserError: as `open_run`, or it has no head.
    """
    workdir = find(path)
    head = trained.read(workdir).head
    if head is None:
        raise UserError(f"{workdir} is no classifier: its model has no head")
    opened, of_head = _open(workdir, which)
    return opened, head, of_head


def read_params(workdir: Path, which: str = "last") -> Any:
    """What a checkpoint of a run holds as params: see `Trained.specs`."""
    param_specs = trained.read(workdir).specs(read_config(workdir))
    return _restored(workdir, _steps(workdir, which), param_specs)


def _open(workdir: Path, which: str) -> tuple[Opened, Any]:
    """The model of a run directory, and the parameters of its head, if any."""
    _check_files(workdir)
    config = read_config(workdir)
    tokenizer = tokenizers.load(workdir / "tokenizer")
    about = trained.read(workdir)
    base = trained.base_of(workdir, about) if about.base else None
    steps = _steps(workdir, which)
    params = _restored(workdir, steps, about.specs(config))
    params, head = (params["model"], params["head"]) if about.head else (params, None)
    if base is not None:
        params = about.merged(open_run(base).params, params, config)
    return Opened(params, config, tokenizer, steps[-1]), head


def _restored(workdir: Path, steps: list[int], param_specs: specs.Specs) -> Any:
    """The mean of the parameters of checkpoints."""
    mesh = meshes.make(meshes.MeshConfig())
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        specs.shapes(param_specs),
        sharding.of_specs(param_specs, mesh),
    )
    size = f"the {specs.count(param_specs):,} parameters of {workdir}"
    held = [abstract] * min(len(steps), 2)  # the sum so far, and what it grows by
    hosts.require_memory(held, size, "take a machine with more")

    def read(step: int) -> Any:
        return checkpoint.restore(workdir, step, {"params": abstract})["params"]

    return _mean(read, steps)


def _mean(read: Callable[[int], Any], steps: list[int]) -> Any:
    """The mean of what is read of each step, of which two are in memory at a time."""
    total = read(steps[0])
    if len(steps) == 1:
        return total
    add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b), donate_argnums=0)
    for step in steps[1:]:
        total = add(total, read(step))
    share = jax.jit(
        lambda a: jax.tree.map(lambda x: x / len(steps), a), donate_argnums=0
    )
    return share(total)


def _check_files(workdir: Path) -> None:
    """Make sure that shape and tokenizer are as a finished run left them."""
    outputs = lineage.read(workdir).get("outputs", {})
    ours = ("model.", "tokenizer/", trained.NAME)
    own = {n: h for n, h in outputs.items() if n.startswith(ours)}
    if changed := lineage.changed(workdir, own):
        raise UserError(f"damaged: {changed[0]}")


def is_choice(which: str) -> bool:
    """Whether `open_run` knows what it means."""
    mean, _, number = which.partition(":")
    is_mean = mean == "mean" and number.isdecimal() and int(number) > 0
    return which in ("last", "best") or which.isdecimal() or is_mean


def _steps(workdir: Path, which: str) -> list[int]:
    """The steps whose parameters `which` is made from."""
    if which.startswith("mean:") and is_choice(which):
        number = int(which.removeprefix("mean:"))
        whole = [s for s in checkpoint.steps(workdir) if _is_whole(workdir, s)]
        if len(whole) < number:
            raise UserError(
                f"{workdir} has {len(whole)} whole checkpoints, not {number}; keep more"
                " with checkpoint.keep_last"
            )
        return whole[-number:]
    return [_step(workdir, which)]


def _is_whole(workdir: Path, step: int) -> bool:
    return not checkpoint.faults(workdir, step)


def _step(workdir: Path, which: str) -> int:
    have = checkpoint.steps(workdir)
    if which in ("last", "best"):
        find = checkpoint.newest if which == "last" else checkpoint.best
        step = find(workdir)
        if step is None:
            raise UserError(f"{workdir} has no whole checkpoint ({which})")
        return step
    if not which.isdecimal() or int(which) not in have:
        raise UserError(f"{workdir} has no checkpoint {which!r}; steps: {have}")
    if wrong := checkpoint.faults(workdir, int(which)):
        raise UserError(f"checkpoint {which} is damaged: {wrong[0]}")
    return int(which)
