"""THE RECIPE of a run that trains: its sections, each value checked before any work.

Before: a config. After: pretrain, and together, which trains several seeds of one.
"""

import dataclasses
import math
from typing import Any, Mapping, NamedTuple, TypeVar

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.data.plan import Plan
from genlm.errors import UserError
from genlm.model.config import TransformerConfig
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import sinks
from genlm.stages import hooks
from genlm.train import losses
from genlm.train import optimizer as optimizers
from genlm.train.guard import GuardConfig

T = TypeVar("T")
READS = (
    "seed",
    "parallel",
    "optimizer",
    "train",
    "eval",
    "checkpoint",
    "guard",
)

NO_TEXT: Mapping[str, dict[str, Any]] = {  # for a model that writes none
    "train": dict.fromkeys("z_loss balance_loss router_z_loss".split(), 0.0)
    | {"vocab_chunk": 0},
    "eval": {
        "sample_every": 0,
        "prompts": ("",),
        "chat": False,
        "max_tokens": 1,
        "temperature": 0.0,
        "top_p": 1.0,
    },
    "checkpoint": {"export_every": 0},
}


# what only a loss of the next token has
OF_NEXT_TOKEN = tuple(
    f"train.{name}" for name in "vocab_chunk z_loss balance_loss router_z_loss".split()
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How many rows a step, and how many steps."""

    num_steps: int
    batch_size: int  # rows, over all devices
    num_microbatches: int  # gradients are added up over as many parts of a batch
    vocab_chunk: int  # 0: all logits at once
    z_loss: float
    balance_loss: float  # of experts; this and the next as of losses.Shares
    router_z_loss: float
    ema_decay: float  # 0: no average of the parameters is kept
    ramp_from: int  # rows of the first batches; 0: batch_size from the start
    ramp_steps: int  # steps of a batch size, until it doubles
    log_every: int
    probe_every: int  # steps between looks inside; see train.health; 0: never
    profile_steps: tuple[int, ...]  # (first, last) step to trace; (0, 0): none
    watch: tuple[str, ...]  # who gets the rows of metrics and samples too: runs.sinks

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "num_microbatches", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is not positive")
        if self.num_steps >= 1 << 31:  # they are counted in int32
            raise UserError(f"train.num_steps {self.num_steps} is over 2147483647")
        if min(self.vocab_chunk, *self.shares) < 0:
            raise UserError(
                "train.vocab_chunk, z_loss, balance_loss or router_z_loss is below 0"
            )
        if not 0 <= self.ema_decay < 1:
            raise UserError("train.ema_decay is not in [0, 1)")
        if self.probe_every < 0:
            raise UserError("train.probe_every is below 0")
        first, *rest = self.profile_steps or (-1,)
        if first < 0 or len(rest) != 1 or rest[0] < first or first == 0 < rest[0]:
            raise UserError(
                "train.profile_steps is not a first and a last step, counted from 1,"
                " nor (0, 0)"
            )
        self._check_ramp()
        sinks.require(self.watch)

    @property
    def shares(self) -> losses.Shares:
        return losses.Shares(self.z_loss, self.balance_loss, self.router_z_loss)

    def _check_ramp(self) -> None:
        times = self.batch_size / self.ramp_from if self.ramp_from else 1
        if self.ramp_from < 0 or times < 1 or math.log2(times) % 1:
            raise UserError(
                f"train.ramp_from {self.ramp_from} does not double into batch_size"
                f" {self.batch_size}"
            )
        if self.ramp_from and self.ramp_steps < 1:
            raise UserError("train.ramp_steps is not positive")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and which to keep."""

    save_every: int
    keep_last: int
    keep_best: bool
    keep_every: int  # steps; one at each stays for good; 0: none
    copy_to: str  # a remote folder that gets a copy of each; '' for none
    export_every: int  # steps between exports to exports/<step>; 0: never

    def __post_init__(self) -> None:
        if self.save_every < 1 or self.keep_last < 1:
            raise UserError("checkpoint.save_every and keep_last are at least 1")
        if self.export_every < 0:
            raise UserError("checkpoint.export_every is below 0")
        if self.keep_every < 0 or self.keep_every % self.save_every:
            raise UserError(
                f"checkpoint.keep_every {self.keep_every} is not a multiple of"
                f" save_every {self.save_every}"
            )


class Recipe(NamedTuple):
    """The sections of a config that this stage reads, checked before any work."""

    seed: int
    train: TrainConfig
    evaluation: hooks.TrainEvalConfig
    saving: CheckpointConfig
    optimizing: optimizers.OptimizerConfig
    mesh: meshes.MeshConfig
    guard: GuardConfig

    def plan(self, left_out: tuple[tuple[int, int], ...] = ()) -> Plan:
        """Which rows each step trains on."""
        train = self.train
        return Plan(train.batch_size, train.ramp_from, train.ramp_steps, left_out)


def read(config: ConfigDict, lacking: Mapping[str, dict[str, Any]] = {}) -> Recipe:
    """The recipe of a config; a wrong value is an error now, not after an hour.

    Args:
      lacking: {section: {key: value}} of what the stage's config does not hold.
    """

    def section(cls: type[T], name: str) -> T:
        return configs.to_dataclass(cls, config[name], **lacking.get(name, {}))

    mesh = configs.to_dataclass(meshes.MeshConfig, config.parallel)
    sharding.changed(mesh.rules)
    return Recipe(
        config.seed,
        section(TrainConfig, "train"),
        section(hooks.TrainEvalConfig, "eval"),
        section(CheckpointConfig, "checkpoint"),
        configs.to_dataclass(optimizers.OptimizerConfig, config.optimizer),
        mesh,
        configs.to_dataclass(GuardConfig, config.guard),
    )


def refuse(recipe: Recipe, *names: str) -> None:
    """Make sure that what a stage does not do is not asked for.

    Args:
      names: of keys of train, eval and checkpoint that count or weigh something.

    Raises:
      UserError: one is not 0.
    """
    of = {"train": recipe.train, "eval": recipe.evaluation, "checkpoint": recipe.saving}
    for name in names:
        section, _, key = name.partition(".")
        if value := getattr(of[section], key):
            raise UserError(f"{name} is {value}, and this stage does not do that: 0")


def check_several(recipe: Recipe) -> None:
    """Make sure that several processes can train this.

    Raises:
      UserError: it asks for what one process alone can do.
    """
    for name in ("copy_to", "export_every"):
        if getattr(recipe.saving, name):
            raise UserError(
                f"checkpoint.{name} is for one process: several share one disk, and"
                " `genlm export` writes what they have trained"
            )


def check_division(
    recipe: Recipe, model: TransformerConfig, row_length: int, mesh: jax.sharding.Mesh
) -> None:
    """Make sure that batches, rows, heads and experts divide over the devices.

    Raises:
      UserError: they do not.
    """
    check_split(model, row_length, mesh)
    ways, train = sharding.ways(mesh, "batch"), recipe.train
    for name in ("batch_size", "ramp_from"):
        if getattr(train, name) % (train.num_microbatches * ways):
            raise UserError(
                f"train.{name} {getattr(train, name)} does not divide into"
                f" {train.num_microbatches} microbatches on {ways} device(s)"
            )
    recipe.evaluation.check_division(ways)


def check_split(
    model: TransformerConfig, row_length: int, mesh: jax.sharding.Mesh
) -> None:
    """Make sure that rows, heads and experts divide over the devices.

    Raises:
      UserError: they do not.
    """
    for count, axis in (("num_heads", "heads"), ("num_experts", "experts")):
        number, parts = getattr(model, count), sharding.ways(mesh, axis)
        if number % parts:
            raise UserError(
                f"model.{count} {number} does not divide over {parts} devices; they"
                f" may be split in {_divisors(number)} parts"
            )
    if row_length % (parts := sharding.ways(mesh, "length")):
        raise UserError(
            f"data.row_length {row_length} does not divide into the {parts} parts of"
            " parallel.context"
        )


def _divisors(number: int) -> str:
    """'1, 2, 3 or 6'."""
    *most, last = (str(n) for n in range(1, number + 1) if number % n == 0)
    return " or ".join((", ".join(most), last)) if most else last
