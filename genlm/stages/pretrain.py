"""PRETRAIN: prepared tokens -> a model that predicts the next one.

Before: prepare (run first, in workdir/data, where config.data.prepared names none).
After: evaluate, generate, fine-tuning. The run directory is described in
runs.directory.
"""

from pathlib import Path
from typing import Any, Mapping, NamedTuple

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.data import batches
from genlm.data.plan import Plan
from genlm.data.replay import Replayed, check_share
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts, sharding
from genlm.stages import beginning, hooks, prepare
from genlm.stages import recipe as recipes
from genlm.stages import training
from genlm.stages.beginning import Beginning
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe
from genlm.stages.training import Measure, Parts, Task
from genlm.train import losses
from genlm.train import optimizer as optimizers
from genlm.train.health import make_probe
from genlm.train.losses import Loss

OF_DATA = ("data.prepared", "data.replay", "data.replay_share")
READS = (*recipes.READS, "source", "model", *OF_DATA)


def read(config: ConfigDict) -> Recipe:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        configs.require(config, prepare.READS)
        prepare.read(config)
    check_share(config.data.replay_share, config.data.replay)
    model = configs.to_dataclass(
        TransformerConfig, config.model, vocab_size=1, max_length=1
    )
    recipe = recipes.read(config)
    optimizers.make_optimizer(
        recipe.optimizing,
        1,
        transformer.param_specs(model),
        width_ratio=model.width_ratio,
    )
    return recipe


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe = read(config)
    if hosts.are_several():
        recipes.check_several(recipe)
        hosts.setup()
    if not config.data.prepared and hosts.is_first():
        prepare.run(config, workdir / "data")
    hosts.meet("the data is prepared")
    prepared = Prepared(Path(config.data.prepared or workdir / "data"))
    begin = beginning.of(config, prepared)
    replay = _replay(config, prepared)
    others = replay.prepared.inputs if replay else {}
    inputs = {**prepared.inputs, **others, **begin.inputs}

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        return task(workdir, prepared, replay, recipe, begin, mesh)

    training.run(config, workdir, recipe, inputs, make_task)


class Replay(NamedTuple):
    """Another text, and its share of the rows."""

    prepared: Prepared
    share: float


def _replay(config: ConfigDict, prepared: Prepared) -> Replay | None:
    """What is replayed besides `prepared`.

    Raises:
      UserError: it is of other tokens, or of rows of another length.
    """
    if not config.data.replay:
        return None
    other = Prepared(Path(config.data.replay))
    beginning.check_tokenizers(
        prepared.folder / "tokenizer", other.folder / "tokenizer"
    )
    lengths = [each.summary["row_length"] for each in (prepared, other)]
    if lengths[0] != lengths[1]:
        raise UserError(
            f"data.replay has rows of {lengths[1]} tokens, and data.prepared of"
            f" {lengths[0]}; prepare both alike"
        )
    return Replay(other, config.data.replay_share)


def task(
    workdir: Path,
    prepared: Prepared,
    replay: Replay | None,
    recipe: Recipe,
    begin: Beginning,
    mesh: Any,
) -> Task:
    model, tokenizer = begin.model, prepared.tokenizer
    recipes.check_division(recipe, model, prepared.summary["row_length"], mesh)
    parts = make_parts(model, recipe, mesh)
    return Task(
        parts,
        lambda plan: _batches(prepared, replay, recipe, plan, mesh),
        _measures(workdir, prepared, model, recipe, mesh),
        prepared.split("train")[0].bytes_per_token(),
        lambda folder: interop.save_model(folder, model, tokenizer),
        adopt=begin.adopted,
        probe=make_probe(
            model,
            next_token_loss(model, recipe),
            parts.optimizer,
            num_microbatches=recipe.train.num_microbatches,
            trained=optimizers.trained(recipe.optimizing, parts.specs),
        ),
    )


def make_parts(model: TransformerConfig, recipe: Recipe, mesh: Any) -> Parts:
    """What is compiled once."""
    param_specs = transformer.param_specs(model)
    loss = next_token_loss(model, recipe)
    return training.make_parts(param_specs, loss, recipe, mesh, model.width_ratio)


def next_token_loss(model: TransformerConfig, recipe: Recipe) -> Loss:
    """The loss of a recipe."""
    train = recipe.train
    return losses.make_next_token_loss(model, train.vocab_chunk, train.shares)


def _measures(
    workdir: Path,
    prepared: Prepared,
    model: TransformerConfig,
    recipe: Recipe,
    mesh: Any,
) -> tuple[Measure, ...]:
    """What is measured and written on the way; compiled once too."""
    evaluation, every = recipe.evaluation, recipe.saving.export_every
    validate = hooks.make_validation(
        prepared,
        model,
        evaluation.batch_size,
        mesh,
        recipe.train.vocab_chunk,
        evaluation.max_rows,
    )
    write = hooks.make_writer(model, prepared.tokenizer, evaluation, recipe.seed)
    export = hooks.make_export(workdir, model, prepared.tokenizer, every)
    return (
        Measure(evaluation.eval_every, hooks.at_any_step(validate)),
        Measure(evaluation.sample_every, hooks.at_any_step(write), "samples"),
        Measure(every, export),
    )


def _batches(
    prepared: Prepared, replay: Replay | None, recipe: Recipe, plan: Plan, mesh: Any
) -> batches.TrainBatches | Replayed:
    """What is trained on, with what is replayed in it."""
    main = reader(prepared, recipe, plan, mesh)
    if replay is None:
        return main
    process, num_processes = sharding.rows_of_process(mesh)
    return Replayed(
        main,
        reader(replay.prepared, recipe, plan, mesh),
        plan,
        replay.share,
        process=process,
        num_processes=num_processes,
    )


def reader(
    prepared: Prepared,
    recipe: Recipe,
    plan: Plan,
    mesh: Any,
    beside: Mapping[str, Any] = {},
) -> batches.TrainBatches:
    """This process's part of the batches; `beside` as of TrainBatches."""
    tokens, rows = prepared.split("train")
    process, num_processes = sharding.rows_of_process(mesh)
    return batches.TrainBatches(
        tokens,
        rows,
        plan,
        seed=recipe.seed,
        pad=prepared.tokenizer.special.pad,
        process=process,
        num_processes=num_processes,
        beside=beside,
    )
