"""TOGETHER: the seeds of one pretrain recipe, trained as one program (train.seeds).

For tiny models, of which one leaves an accelerator idle. Before: sweep. After: a run
directory a seed, as pretrain would have made it.
"""

import contextlib
import itertools
from pathlib import Path
from typing import Any, Iterator

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.data.ahead import Ahead
from genlm.interop import run as interop
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import checkpoint, directory, lineage
from genlm.runs.metrics import Log
from genlm.runs.saving import Checkpoints
from genlm.stages import hooks, pretrain, rerun, training
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe, check_division
from genlm.train import loop
from genlm.train import seeds as together
from genlm.train import state as states
from genlm.train.readings import Readings
from genlm.train.state import TrainState


def run(todo: dict[Path, ConfigDict]) -> dict[Path, str]:
    """Train {folder: config}, which differ in their seed only, as far as unfinished.

    They go on from the newest step that all of them have; a single one that is left is
    not begun here. Several devices do not help: the first is used.

    Returns why a run failed, by its folder.

    Raises:
      NotTogether: they do not fit, or a setting is for a run of its own.
      Stopped: a signal came; all were saved first.
    """
    prepared = Prepared(Path(next(iter(todo.values())).data.prepared))
    todo = {
        folder: config
        for folder, config in todo.items()
        if not rerun.is_finished(config, folder, prepared.inputs)
    }
    if len(todo) < 2:
        return {}
    recipes = [pretrain.read(config) for config in todo.values()]
    _check_settings(recipes[0], next(iter(todo.values())).source)
    hosts.setup()
    mesh = meshes.make(meshes.MeshConfig(), jax.devices()[:1])
    model = configs.to_dataclass(
        TransformerConfig,
        next(iter(todo.values())).model,
        vocab_size=prepared.tokenizer.vocab_size,
        max_length=prepared.summary["row_length"],
    )
    check_division(recipes[0], model, prepared.summary["row_length"], mesh)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sharding.laid_out(mesh, recipes[0].mesh.rules))
        for folder, config in todo.items():
            stack.enter_context(directory.held(folder))
            rerun.check_kind(config, folder)
        runs = _train(stack, todo, recipes, model, prepared, mesh)
    failures = {f: r.failure for f, r in zip(todo, runs) if r.failure}
    for folder in todo.keys() - failures.keys():
        lineage.write(folder, prepared.inputs, training.outputs(folder))
    return failures


def _check_settings(recipe: Recipe, source: str) -> None:
    """Make sure that nothing is asked for that only train.loop does."""
    asked = {
        "source": source,
        "train.ramp_from": recipe.train.ramp_from,
        "train.probe_every": recipe.train.probe_every,
        "train.profile_steps": any(recipe.train.profile_steps),
        "train.watch": recipe.train.watch,
        "checkpoint.export_every": recipe.saving.export_every,
        "guard.max_rewinds": recipe.guard.max_rewinds,
    }
    for name, value in asked.items():
        if value:
            raise together.NotTogether(f"{name} is for a run of its own")


def _train(
    stack: contextlib.ExitStack,
    todo: dict[Path, ConfigDict],
    recipes: list[Recipe],
    model: TransformerConfig,
    prepared: Prepared,
    mesh: jax.sharding.Mesh,
) -> list[together.Run]:
    """Put the parts together and hand them to the loop of several seeds."""
    recipe, train = recipes[0], recipes[0].train
    parts = pretrain.make_parts(model, recipe, mesh)

    def make(seed: jax.Array) -> TrainState:
        return states.make(parts.specs, parts.optimizer, seed, parts.ema)

    first = _common_step(list(todo))
    seeds = jnp.asarray([r.seed for r in recipes], jnp.int32)
    batches = Ahead(
        lambda step: _batches(prepared, recipes, mesh, step),
        first,
        recipe.guard.stall_seconds,
        lambda step: print(f"no batch came for step {step}; read again", flush=True),
    )
    stack.enter_context(batches)
    batch = next(batches)
    step_together = together.compile_step(
        parts.train_step.__wrapped__, make, seeds, batch  # as it was before jit
    )
    print(f"{len(todo)} seeds together, from step {first}", flush=True)
    if first:
        like = states.abstract(parts.specs, parts.optimizer, mesh, parts.ema)
        read = [checkpoint.restore(f, first, loop.split(like)) for f in todo]
        state = together.stack([loop.join(items) for items in read])
    else:
        state = jax.jit(jax.vmap(make))(seeds)
    validate = hooks.make_validation(
        prepared,
        model,
        recipe.evaluation.batch_size,
        mesh,
        train.vocab_chunk,
        recipe.evaluation.max_rows,
    )
    runs = []
    for (folder, config), own in zip(todo.items(), recipes):
        rerun.save_config(config, folder)
        lineage.write(folder, prepared.inputs, {})
        interop.save_model(folder, model, prepared.tokenizer)
        write = hooks.make_writer(model, prepared.tokenizer, own.evaluation, own.seed)
        runs.append(_open(stack, folder, own, first, (validate, write), prepared))
    together.train(
        state,
        step_together,
        itertools.chain([batch], batches),
        loop.LoopConfig(
            train.num_steps, train.log_every, recipe.saving.save_every, recipe.guard
        ),
        runs,
    )
    return runs


def _common_step(folders: list[Path]) -> int:
    """The newest step of which every run has a whole checkpoint; 0 where none has any.

    Raises:
      NotTogether: they share none, so that each must go on by itself.
    """
    have = [set(checkpoint.steps(folder)) for folder in folders]
    for step in sorted(set.intersection(*have), reverse=True):
        if not any(checkpoint.faults(folder, step) for folder in folders):
            return step
    if any(have):
        raise together.NotTogether("they share no whole checkpoint")
    return 0


def _batches(
    prepared: Prepared, recipes: list[Recipe], mesh: jax.sharding.Mesh, first: int
) -> Iterator[Any]:
    """The batches of step `first` and on, with a leading dim of seeds."""
    readers = [
        pretrain.reader(prepared, r, r.plan(), mesh).since(first) for r in recipes
    ]
    for batches in zip(*readers):
        yield jax.tree.map(lambda *xs: np.stack(xs), *batches)


def _open(
    stack: contextlib.ExitStack,
    folder: Path,
    recipe: Recipe,
    first: int,
    run_hooks: tuple[Any, Any],
    prepared: Prepared,
) -> together.Run:
    """The logs, hooks and checkpoints of one seed, closed when `stack` is."""
    saving, evaluation, guard = recipe.saving, recipe.evaluation, recipe.guard
    log, samples, _ = (
        Log(folder / f"{name}.jsonl", first, guard.disk_seconds)
        for name in ("metrics", "samples", "health")
    )
    journal = Log(folder / "events.jsonl", None, guard.disk_seconds)
    journal.write({"step": first, "event": "start", "why": hosts.describe()})
    checkpoints = Checkpoints(
        folder,
        start_step=first,
        keep_last=saving.keep_last,
        keep_best=saving.keep_best,
        keep_every=saving.keep_every,
        patience=guard.disk_seconds,
        on_failure=lambda step, why: journal.write(
            {"step": step, "event": "save failed", "why": why}
        ),
    )
    readings = Readings(
        log=log,
        journal=journal,
        guard=guard,
        rewinds_left=0,
        log_every=recipe.train.log_every,
        num_steps=recipe.train.num_steps,
        bytes_per_token=prepared.split("train")[0].bytes_per_token(),
        tokens=checkpoint.tokens(folder, first) if first else 0,
        confirm=checkpoints.confirm,
    )
    validate, write = run_hooks
    return together.Run(
        journal,
        readings,
        (
            loop.Hook(evaluation.eval_every, hooks.at_any_step(validate), log),
            loop.Hook(evaluation.sample_every, hooks.at_any_step(write), samples),
        ),
        stack.enter_context(checkpoints),
    )
