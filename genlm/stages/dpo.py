"""DPO: answers that people ranked -> a policy that gives the better ones more weight.

Before: preferences, which are prepared first in workdir/data where config.data.prepared
names none, and a run that answers (config.source): where the policy begins, and the
reference that it is held against. After: chat, evaluate. What the reference says of
every row is computed once, and kept in workdir/reference.npz under the hash of what it
was computed from. IPO, KTO, ORPO, SimPO and cDPO are choices in config.dpo.
"""

import io
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import FOLDER as ADAPTER
from genlm.parallel import hosts
from genlm.posttrain import dpo
from genlm.posttrain.dpo import DpoConfig
from genlm.runs import directory, lineage
from genlm.runs.progress import track
from genlm.stages import adaptation, hooks, preferring, prepare_preferences, pretrain
from genlm.stages import recipe as recipes
from genlm.stages import training
from genlm.stages.adaptation import Adaptation
from genlm.stages.prepare import SPLITS, Prepared
from genlm.stages.recipe import Recipe
from genlm.stages.training import Measure, Task

READS = (*recipes.READS, "source", "data.prepared", "lora", "model", "dpo")
REFERENCE = "reference.npz"


def read(config: ConfigDict) -> tuple[Recipe, DpoConfig]:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        prepare_preferences.read(config)
    adaptation.read(config)
    recipe = recipes.read(config)
    others = ("train.z_loss", "train.balance_loss", "train.router_z_loss")
    refused = ("train.probe_every", "checkpoint.export_every")
    recipes.refuse(recipe, *others, *refused, "eval.max_rows")
    return recipe, configs.to_dataclass(DpoConfig, config.dpo)


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe, of_dpo = read(config)
    source = interop.find(Path(config.source))
    arrangement = "mismatched" if of_dpo.kind == "kto" else "pairs"
    prepared = preferring.prepared(config, workdir, source, arrangement)
    outputs = lineage.read(source).get("outputs")
    of_source = {str(source): {"sha256": lineage.digest(outputs)}}
    model = adaptation.shape(config, source, prepared.tokenizer.vocab_size)
    if model.vocab_size != interop.read_config(source).vocab_size:
        raise UserError(
            f"{source} has no tokens of a chat, so it is no reference for answers; let"
            " it learn to answer first (stage sft)"
        )

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        recipes.check_division(recipe, model, prepared.summary["row_length"], mesh)
        section = adaptation.read(config)
        adapted = adaptation.of(section, model, source, workdir, recipe.seed, mesh)
        key = lineage.digest({**prepared.inputs, **of_source, "kind": of_dpo.answers})
        said = _reference(workdir, key, prepared, recipe, of_dpo, adapted, source, mesh)
        return _task(prepared, recipe, of_dpo, adapted, said, mesh)

    training.run(config, workdir, recipe, {**prepared.inputs, **of_source}, make_task)


def _reference(
    workdir: Path,
    key: str,
    prepared: Prepared,
    recipe: Recipe,
    of_dpo: DpoConfig,
    adapted: Adaptation,
    source: Path,
    mesh: jax.sharding.Mesh,
) -> dict[str, preferring.Beside]:
    """What stands beside the rows of each split: ranks, and what the reference says of
    each answer; 0 where none is needed."""
    found = {}
    for split in SPLITS:
        ranks = prepare_preferences.extras(prepared.folder, split)["ranks"]
        ranks = np.pad(ranks, [(0, 0), (0, of_dpo.answers - ranks.shape[1])])
        empty = np.zeros(ranks.shape, np.float32)
        found[split] = {"ranks": ranks, "reference": empty}
    if of_dpo.kind in dpo.WITHOUT_REFERENCE:
        return found
    path = workdir / REFERENCE
    kept = dict(np.load(path)) if path.exists() else {}
    if str(kept.get("key")) != key:
        params = adapted.frozen
        if adapted.trained.lora is None:
            params = interop.open_run(source).params
        kept = {"key": np.asarray(key)}
        for split in SPLITS:
            kept[split] = _said(params, adapted, prepared, split, recipe, of_dpo, mesh)
        packed = io.BytesIO()
        np.savez(packed, **kept)
        directory.write_atomic(path, packed.getvalue())
    for split in SPLITS:
        found[split]["reference"] = kept[split]
    return found


def _said(
    params: Any,
    adapted: Adaptation,
    prepared: Prepared,
    split: str,
    recipe: Recipe,
    of_dpo: DpoConfig,
    mesh: jax.sharding.Mesh,
) -> np.ndarray:
    """log p [rows, K] of the answers of a split."""
    model, chunk = adapted.model.without_chance, recipe.train.vocab_chunk
    size, number = recipe.evaluation.batch_size, prepared.summary[split]["rows"]

    @jax.jit
    def look(params: Any, batch: Any) -> jax.Array:
        return dpo.sequence_logprobs(params, batch, model, of_dpo.answers, chunk)[0]

    batches = preferring.in_order(prepared, split, {}, size, mesh)
    title, total = f"reference of {split}", -(-number // size)
    found = [
        hosts.fetch(look(params, batch))
        for batch in track(batches, title, total, "batches")
    ]
    return np.concatenate(found)[:number]


def _task(
    prepared: Prepared,
    recipe: Recipe,
    of_dpo: DpoConfig,
    adapted: Adaptation,
    beside: dict[str, preferring.Beside],
    mesh: jax.sharding.Mesh,
) -> Task:
    model, tokenizer = adapted.model, prepared.tokenizer
    evaluation, chunk = recipe.evaluation, recipe.train.vocab_chunk
    loss = adapted.loss(dpo.make_dpo_loss(model, of_dpo, chunk))
    parts = training.make_parts(adapted.specs, loss, recipe, mesh)
    still = dpo.make_dpo_loss(model.without_chance, of_dpo, chunk)
    validate = preferring.make_validation(
        lambda params, batch: still(params, None, batch, None),
        prepared,
        beside["valid"],
        evaluation.batch_size,
        mesh,
    )
    write = hooks.make_writer(model, tokenizer, evaluation, recipe.seed)
    return Task(
        parts,
        lambda plan: pretrain.reader(prepared, recipe, plan, mesh, beside["train"]),
        (
            Measure(evaluation.eval_every, adapted.look(validate)),
            Measure(evaluation.sample_every, adapted.look(write), "samples"),
        ),
        float("nan"),
        lambda workdir: adapted.save(workdir, tokenizer),
        adapted.finish,
        adapted.adopted,
        adapted.frozen,
        made=(trained.NAME, ADAPTER, REFERENCE),
    )
