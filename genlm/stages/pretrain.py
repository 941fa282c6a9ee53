"""PRETRAIN: prepared tokens -> a model that predicts the next one.

Before: prepare (run first, in workdir/data, where config.data.prepared names none).
After: evaluate, generate, fine-tuning. The run directory is described in
runs.directory.
"""

import dataclasses
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.data import batches
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.model import transformer
from genlm.model.transformer import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding, specs
from genlm.runs import checkpoint, directory, lineage, metrics
from genlm.stages import hooks, prepare, rerun
from genlm.stages.prepare import Prepared
from genlm.train import loop, losses
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train import step
from genlm.train.state import TrainState

READS = (
    "seed",
    "data.prepared",
    "model",
    "parallel",
    "optimizer",
    "train",
    "eval",
    "checkpoint",
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How many rows a step, and how many steps."""

    num_steps: int
    batch_size: int  # rows, over all devices
    num_microbatches: int  # gradients are added up over as many parts of a batch
    vocab_chunk: int  # 0: all logits at once
    z_loss: float
    ema_decay: float  # 0: no average of the parameters is kept
    log_every: int

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "num_microbatches", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is not positive")
        if self.vocab_chunk < 0 or self.z_loss < 0:
            raise UserError("train.vocab_chunk or z_loss is below 0")
        if not 0 <= self.ema_decay < 1:
            raise UserError("train.ema_decay is not in [0, 1)")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and which to keep."""

    save_every: int
    keep_last: int
    keep_best: bool
    keep_every: int  # steps; one at each stays for good; 0: none

    def __post_init__(self) -> None:
        if self.save_every < 1 or self.keep_last < 1:
            raise UserError("checkpoint.save_every and keep_last are at least 1")
        if self.keep_every < 0 or self.keep_every % self.save_every:
            raise UserError(
                f"checkpoint.keep_every {self.keep_every} is not a multiple of"
                f" save_every {self.save_every}"
            )


class Recipe(NamedTuple):
    """The sections of a config that this stage reads, checked before any work."""

    seed: int
    train: TrainConfig
    evaluation: hooks.EvalConfig
    saving: CheckpointConfig
    optimizing: optimizers.OptimizerConfig
    mesh: meshes.MeshConfig


def read(config: ConfigDict) -> Recipe:
    """The recipe of a config; a wrong value is an error now, not after an hour."""
    if not config.data.prepared:
        configs.require(config, prepare.READS)
        prepare.read(config)
    model = configs.to_dataclass(
        TransformerConfig, config.model, vocab_size=1, max_length=1
    )
    optimizing = configs.to_dataclass(optimizers.OptimizerConfig, config.optimizer)
    optimizers.make_optimizer(optimizing, 1, transformer.param_specs(model))
    return Recipe(
        config.seed,
        configs.to_dataclass(TrainConfig, config.train),
        configs.to_dataclass(hooks.EvalConfig, config.eval),
        configs.to_dataclass(CheckpointConfig, config.checkpoint),
        optimizing,
        configs.to_dataclass(meshes.MeshConfig, config.parallel),
    )


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe = read(config)
    if not config.data.prepared:
        prepare.run(config, workdir / "data")
    prepared = Prepared(Path(config.data.prepared or workdir / "data"))
    directory.create(workdir)
    finished = rerun.is_finished(config, workdir, prepared.inputs)
    start = checkpoint.newest(workdir)
    if start is None and checkpoint.steps(workdir):
        raise UserError(
            f"{workdir}: none of its checkpoints is whole; delete"
            f" {checkpoint.root(workdir)} to begin anew"
        )
    if finished and start is not None and start >= recipe.train.num_steps:
        print(f"{workdir}: finished at step {start}", flush=True)
        return
    hosts.setup()
    mesh = meshes.make(recipe.mesh)
    check_division(recipe, mesh)
    model = configs.to_dataclass(
        TransformerConfig,
        config.model,
        vocab_size=prepared.tokenizer.vocab_size,
        max_length=prepared.summary["row_length"],
    )
    rerun.save_config(config, workdir)
    lineage.write(workdir, prepared.inputs, {})
    interop.save_model(workdir, model, prepared.tokenizer)
    with jax.set_mesh(mesh):
        _train(workdir, prepared, model, recipe, mesh, start)
    lineage.write(workdir, prepared.inputs, outputs(workdir))


def _train(
    workdir: Path,
    prepared: Prepared,
    model: TransformerConfig,
    recipe: Recipe,
    mesh: jax.sharding.Mesh,
    start: int | None,
) -> None:
    """Put the parts together and hand them to the loop."""
    train, evaluation, saving = recipe.train, recipe.evaluation, recipe.saving
    optimizer = optimizers.make_optimizer(
        recipe.optimizing, train.num_steps, transformer.param_specs(model)
    )
    ema = train.ema_decay > 0
    state = _state(workdir, model, optimizer, mesh, recipe.seed, ema, start)
    train_step = jax.jit(
        step.make_train_step(
            losses.make_next_token_loss(model, train.vocab_chunk, train.z_loss),
            optimizer,
            optimizers.make_schedule(recipe.optimizing, train.num_steps),
            num_microbatches=train.num_microbatches,
            ema_decay=train.ema_decay,
        ),
        donate_argnums=0,
        out_shardings=(
            states.shardings(transformer.param_specs(model), optimizer, mesh, ema),
            sharding.replicated(mesh),
        ),
    )
    first = start or 0
    log = metrics.Log(workdir / "metrics.jsonl", first)
    samples = metrics.Log(workdir / "samples.jsonl", first)
    validate = hooks.make_validation(
        prepared, model, evaluation.batch_size, mesh, train.vocab_chunk
    )
    write = hooks.make_writer(model, prepared.tokenizer, evaluation, recipe.seed)
    with checkpoint.Checkpoints(
        workdir,
        start_step=first,
        keep_last=saving.keep_last,
        keep_best=saving.keep_best,
        keep_every=saving.keep_every,
    ) as checkpoints:
        loop.train(
            state,
            train_step,
            hooks.on_devices(read_batches(prepared, recipe, first), mesh),
            loop.LoopConfig(train.num_steps, train.log_every, saving.save_every),
            log=log,
            checkpoints=checkpoints,
            hooks=(
                loop.Hook(evaluation.eval_every, validate, log),
                loop.Hook(evaluation.sample_every, write, samples),
            ),
            bytes_per_token=prepared.split("train")[0].bytes_per_token(),
        )


def _state(
    workdir: Path,
    model: TransformerConfig,
    optimizer: Any,
    mesh: jax.sharding.Mesh,
    seed: int,
    ema: bool,
    start: int | None,
) -> TrainState:
    """A fresh state, or that of checkpoint `start`, on any mesh."""
    param_specs = transformer.param_specs(model)
    where = f"from step {start or 0} on {mesh.size} {jax.default_backend()} device(s)"
    size = f"{specs.count(param_specs):,} parameters"
    print(f"{size}, {where}", flush=True)
    abstract = states.abstract(param_specs, optimizer, mesh, ema)
    hosts.require_memory(
        abstract,
        f"{size} and their optimizer",
        "take a smaller model, or more devices on parallel.fsdp",
    )
    if start is None:
        return states.born_sharded(param_specs, optimizer, mesh, seed, ema)
    return loop.join(checkpoint.restore(workdir, start, loop.split(abstract)))


def read_batches(
    prepared: Prepared, recipe: Recipe, first: int
) -> Iterator[batches.Batch]:
    """This process's part of the batches of step `first` and on."""
    tokens, rows = prepared.split("train")
    return batches.TrainBatches(
        tokens,
        rows,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        pad=prepared.tokenizer.special.pad,
        process=jax.process_index(),
        num_processes=jax.process_count(),
    ).since(first)


def outputs(workdir: Path) -> dict[str, str]:
    """Hashes of what the run made; checkpoints by their manifests."""
    last = checkpoint.steps(workdir)[-1]
    manifests = sorted(checkpoint.root(workdir).glob(f"{last}.*.json"))
    names = ["model.json", "tokenizer", "metrics.jsonl", "samples.jsonl"]
    names += [str(p.relative_to(workdir)) for p in manifests]
    return lineage.of_outputs(workdir, names)


def check_division(recipe: Recipe, mesh: jax.sharding.Mesh) -> None:
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    train = recipe.train
    if train.batch_size % (train.num_microbatches * ways):
        raise UserError(
            f"train.batch_size {train.batch_size} does not divide into"
            f" {train.num_microbatches} microbatches on {ways} device(s)"
        )
    recipe.evaluation.check_division(ways)
