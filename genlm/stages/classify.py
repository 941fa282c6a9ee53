"""CLASSIFY: texts and their classes -> a model with a head that tells them apart.

Before: labelled texts, which are prepared first in workdir/data where
config.data.prepared names none; and pretrain or import_model (config.source), or
nothing: then a model is trained from scratch. After: genlm classify. All parameters are
trained, or a low-rank change (stages.adaptation), and the head always is.
"""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.data.reading import Reading
from genlm.errors import UserError
from genlm.interop import classifier
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import FOLDER as ADAPTER
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.stages import adaptation, beginning, held_out, prepare_labelled, pretrain
from genlm.stages import recipe as recipes
from genlm.stages import training
from genlm.stages.adaptation import Adaptation
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe
from genlm.stages.training import Measure, Task
from genlm.train import class_loss
from genlm.train.health import make_probe

READS = (
    *recipes.READS,
    "source",
    "data.prepared",
    "tokenizer",
    "lora",
    "model",
    "head.pool",
    "head.class_weights",
)


def read(config: ConfigDict) -> Recipe:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        prepare_labelled.read(config)
    HeadConfig((), config.head.pool)
    if config.head.class_weights not in class_loss.CLASS_WEIGHTS:
        raise UserError(
            f"head.class_weights {config.head.class_weights!r} is none of"
            f" {class_loss.CLASS_WEIGHTS}"
        )
    if adaptation.read(config).rank and not config.source:
        raise UserError("lora.rank is of a change of a model: name it in source")
    if not config.source:
        configs.to_dataclass(
            TransformerConfig, config.model, vocab_size=1, max_length=1
        )
    return recipes.read(config, recipes.NO_TEXT)


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe = read(config)
    source = interop.find(Path(config.source)) if config.source else None
    if not config.data.prepared:
        prepare_labelled.run(config, workdir / "data", source)
    prepared = Prepared(Path(config.data.prepared or workdir / "data"))
    if "classes" not in prepared.summary:
        raise UserError(f"data.prepared: {prepared.folder.parent} has no classes")
    begin = beginning.of(config, prepared)
    head = HeadConfig(tuple(prepared.summary["classes"]), config.head.pool)
    inputs = {**prepared.inputs, **begin.inputs}

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        model = begin.model
        recipes.check_division(recipe, model, prepared.summary["row_length"], mesh)
        if source is None:
            adapted = adaptation.fresh(model)
        else:
            section = adaptation.read(config)
            adapted = adaptation.of(section, model, source, workdir, recipe.seed, mesh)
        balance = config.head.class_weights
        return _task(prepared, recipe, adapted, head, balance, mesh)

    training.run(config, workdir, recipe, inputs, make_task)


def _task(
    prepared: Prepared,
    recipe: Recipe,
    adapted: Adaptation,
    head: HeadConfig,
    balance: str,
    mesh: jax.sharding.Mesh,
) -> Task:
    model, summary = adapted.model, prepared.summary
    evaluation = recipe.evaluation
    reading = Reading(summary["row_length"], summary["keep"])
    weights_C = class_loss.class_weights([n for n, _ in summary["counts"]], balance)
    headed = adapted.with_head(head)
    loss = headed.loss(class_loss.make_class_loss(model, head, weights_C))
    parts = training.make_parts(headed.specs, loss, recipe, mesh, model.width_ratio)
    validate = held_out.make_validation(
        prepared,
        model,
        head,
        weights_C,
        evaluation.batch_size,
        mesh,
        evaluation.max_rows,
    )

    def save(workdir: Path) -> None:
        headed.save(workdir, prepared.tokenizer)
        classifier.save(workdir, reading)

    def finish(workdir: Path) -> None:
        headed.finish(workdir)
        held_out.finish(workdir, prepared)

    return Task(
        parts,
        lambda plan: pretrain.reader(prepared, recipe, plan, mesh),
        (Measure(evaluation.eval_every, headed.look(validate)),),
        float("nan"),  # what is trained on spells no text
        save,
        finish,
        headed.adopted,
        headed.frozen,
        make_probe(
            model,
            loss,
            parts.optimizer,
            num_microbatches=recipe.train.num_microbatches,
            frozen=headed.frozen,
            model_of=lambda params, frozen: headed.model_of(params, frozen)["model"],
        ),
        (trained.NAME, ADAPTER, *held_out.MADE),
    )
