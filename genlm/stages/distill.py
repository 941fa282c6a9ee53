"""DISTILL: a run as the teacher and prepared text -> a smaller model that follows it.

Before: a trained run (config.teacher) and the text or conversations that were prepared
with its tokenizer (config.data.prepared). After: as pretrain, whose recipe this is but
for the loss; the student begins at random weights, or at config.source.
"""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.interop.run import find, open_run
from genlm.model import transformer
from genlm.parallel import sharding
from genlm.runs import lineage
from genlm.stages import beginning, pretrain
from genlm.stages import recipe as recipes
from genlm.stages import training
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe
from genlm.stages.training import Task
from genlm.train.distillation import DistillConfig, make_distill_loss

READS = (*pretrain.READS, "teacher", "distill")


def read(config: ConfigDict) -> Recipe:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        raise UserError("data.prepared names what the teacher's tokenizer has prepared")
    configs.to_dataclass(DistillConfig, config.distill)
    recipe = pretrain.read(config)
    if config.data.replay:
        raise UserError("data.replay is not for this stage")
    unknown = ("train.probe_every", "checkpoint.export_every")
    recipes.refuse(recipe, *recipes.OF_NEXT_TOKEN, *unknown)
    return recipe


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe = read(config)
    prepared = Prepared(Path(config.data.prepared))
    teacher = find(Path(config.teacher))
    beginning.check_tokenizers(teacher / "tokenizer", prepared.folder / "tokenizer")
    begin = beginning.of(config, prepared)
    outputs = lineage.read(teacher).get("outputs")
    told = {str(teacher): {"sha256": lineage.digest(outputs)}}

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        recipes.check_division(
            recipe, begin.model, prepared.summary["row_length"], mesh
        )
        opened = open_run(teacher)
        lives = sharding.of_specs(transformer.param_specs(opened.config), mesh)
        loss = make_distill_loss(
            begin.model,
            opened.config,
            configs.to_dataclass(DistillConfig, config.distill),
        )
        specs = transformer.param_specs(begin.model)
        task = pretrain.task(workdir, prepared, None, recipe, begin, mesh)
        return task._replace(
            parts=training.make_parts(
                specs, loss, recipe, mesh, begin.model.width_ratio
            ),
            frozen=jax.tree.map(jax.device_put, opened.params, lives),
            probe=None,
        )

    training.run(
        config, workdir, recipe, {**prepared.inputs, **told, **begin.inputs}, make_task
    )
