"""REWARD: answers that people ranked -> a model with a head that scores answers.

Before: preferences, which are prepared first in workdir/data where config.data.prepared
names none, and a run that answers (config.source). After: rewards of a policy, best of
n. All parameters are trained, or a low-rank change, and the head always is; the score
is read at STOP.
"""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import FOLDER as ADAPTER
from genlm.posttrain import reward
from genlm.posttrain.reward import RewardConfig
from genlm.runs import lineage
from genlm.stages import adaptation, preferring, prepare_preferences, pretrain
from genlm.stages import recipe as recipes
from genlm.stages import reward_report, training
from genlm.stages.adaptation import Adaptation
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe
from genlm.stages.training import Measure, Task

READS = (*recipes.READS, "source", "data.prepared", "lora", "model", "reward")


def read(config: ConfigDict) -> tuple[Recipe, RewardConfig]:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        prepare_preferences.read(config)
    adaptation.read(config)
    recipe = recipes.read(config, recipes.NO_TEXT)
    recipes.refuse(recipe, "train.probe_every", "eval.max_rows")
    return recipe, configs.to_dataclass(RewardConfig, config.reward)


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe, of_reward = read(config)
    source = interop.find(Path(config.source))
    prepared = preferring.prepared(config, workdir, source, "rankings")
    outputs = lineage.read(source).get("outputs")
    inputs = {**prepared.inputs, str(source): {"sha256": lineage.digest(outputs)}}
    model = adaptation.shape(config, source, prepared.tokenizer.vocab_size)

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        recipes.check_division(recipe, model, prepared.summary["row_length"], mesh)
        section = adaptation.read(config)
        adapted = adaptation.of(section, model, source, workdir, recipe.seed, mesh)
        return _task(prepared, recipe, adapted, of_reward, mesh)

    training.run(config, workdir, recipe, inputs, make_task)


def _task(
    prepared: Prepared,
    recipe: Recipe,
    adapted: Adaptation,
    of_reward: RewardConfig,
    mesh: jax.sharding.Mesh,
) -> Task:
    model = adapted.model
    headed = adapted.with_head(reward.HEAD)
    loss = headed.loss(reward.make_reward_loss(model, of_reward))
    parts = training.make_parts(headed.specs, loss, recipe, mesh)
    beside = {
        split: prepare_preferences.extras(prepared.folder, split)
        for split in ("train", "valid")
    }
    still = reward.make_reward_loss(model.without_chance, of_reward)
    validate = preferring.make_validation(
        lambda params, batch: still(params, None, batch, None),
        prepared,
        beside["valid"],
        recipe.evaluation.batch_size,
        mesh,
    )

    def finish(workdir: Path) -> None:
        headed.finish(workdir)
        reward_report.finish(workdir, prepared, recipe.evaluation.batch_size)

    return Task(
        parts,
        lambda plan: pretrain.reader(prepared, recipe, plan, mesh, beside["train"]),
        (Measure(recipe.evaluation.eval_every, headed.look(validate)),),
        float("nan"),  # a score spells no text
        lambda workdir: headed.save(workdir, prepared.tokenizer),
        finish,
        headed.adopted,
        headed.frozen,
        made=(trained.NAME, ADAPTER, *reward_report.MADE),
    )
