"""SFT: a run's model and conversations -> a model that answers, and stops.

Before: pretrain or import_model (config.source), and conversations, which are prepared
first in workdir/data where config.data.prepared names none. After: chat, evaluate,
alignment. All parameters are trained, or a low-rank change (stages.adaptation).
"""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from genlm import tokenizer as tokenizers
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import FOLDER as ADAPTER
from genlm.model.config import TransformerConfig
from genlm.runs import lineage
from genlm.stages import adaptation, hooks, prepare_chat, pretrain
from genlm.stages import recipe as recipes
from genlm.stages import training
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe
from genlm.stages.training import Measure, Task
from genlm.train.health import make_probe

READS = (*recipes.READS, "source", "data.prepared", "lora", "model")


def read(config: ConfigDict) -> Recipe:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        prepare_chat.read(config)
    adaptation.read(config)
    return recipes.read(config)


def run(config: ConfigDict, workdir: Path) -> None:
    """Fine-tune in `workdir`, from its newest checkpoint if it has one."""
    recipe = read(config)
    source = interop.find(Path(config.source))
    if not config.data.prepared:
        base = tokenizers.load(source / "tokenizer")
        prepare_chat.run(config, workdir / "data", source, base)
    prepared = Prepared(Path(config.data.prepared or workdir / "data"))
    outputs = lineage.read(source).get("outputs")
    inputs = {**prepared.inputs, str(source): {"sha256": lineage.digest(outputs)}}
    model = adaptation.shape(config, source, prepared.tokenizer.vocab_size)
    _check_length(prepared, model)

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        recipes.check_division(recipe, model, prepared.summary["row_length"], mesh)
        section = adaptation.read(config)
        adapted = adaptation.of(section, model, source, workdir, recipe.seed, mesh)
        return _task(workdir, prepared, recipe, adapted, mesh)

    training.run(config, workdir, recipe, inputs, make_task)


def _check_length(prepared: Prepared, model: TransformerConfig) -> None:
    if (length := prepared.summary["row_length"]) > model.max_length:
        raise UserError(
            f"data.row_length is {length}, and the model looks back"
            f" {model.max_length} tokens; take shorter rows"
        )


def _task(
    workdir: Path,
    prepared: Prepared,
    recipe: Recipe,
    adapted: adaptation.Adaptation,
    mesh: jax.sharding.Mesh,
) -> Task:
    model, tokenizer = adapted.model, prepared.tokenizer
    evaluation, train = recipe.evaluation, recipe.train
    loss = adapted.loss(pretrain.next_token_loss(model, recipe))
    parts = training.make_parts(adapted.specs, loss, recipe, mesh)
    validate = hooks.make_validation(
        prepared,
        model,
        evaluation.batch_size,
        mesh,
        train.vocab_chunk,
        evaluation.max_rows,
    )
    write = hooks.make_writer(model, tokenizer, evaluation, recipe.seed)
    every = recipe.saving.export_every
    export = hooks.make_export(workdir, model, tokenizer, every)
    return Task(
        parts,
        lambda plan: pretrain.reader(prepared, recipe, plan, mesh),
        (
            Measure(evaluation.eval_every, adapted.look(validate)),
            Measure(evaluation.sample_every, adapted.look(write), "samples"),
            Measure(every, lambda p, step: export(adapted.merged(p), step)),
        ),
        prepared.split("train")[0].bytes_per_token(),
        lambda workdir: adapted.save(workdir, tokenizer),
        adapted.finish,
        adapted.adopted,
        adapted.frozen,
        make_probe(
            model,
            loss,
            parts.optimizer,
            num_microbatches=train.num_microbatches,
            frozen=adapted.frozen,
            model_of=adapted.model_of,
        ),
        (trained.NAME, ADAPTER),
    )
