"""PLANNING: a pretrain config and a topology -> what its step needs and allows there.

Before: a recipe. After: `genlm plan` prints it. Nothing is run and no data is read: the
step that pretrain would compile is compiled for chips that are not here. With `serve`
it is reading a prompt, and writing one token, that are compiled.
"""

import itertools
import math
from typing import Any, Callable, Iterator, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.inference import decode
from genlm.model import cache as kv
from genlm.model import costs, transformer
from genlm.model.config import REMAT, TransformerConfig
from genlm.parallel import mesh as meshes
from genlm.parallel import plan as plans
from genlm.parallel import sharding, specs
from genlm.parallel.chips import Chip
from genlm.parallel.plan import Plan, TooLarge
from genlm.stages import pretrain
from genlm.stages import recipe as recipes
from genlm.tokenizer.byte import ByteTokenizer
from genlm.train import state as states

OTHERS = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8))  # data, tensor


class Planned(NamedTuple):
    """A plan, beside what it is held against."""

    what: str
    topology: str
    parameters: int
    tokens: int  # of all chips, each time
    model_flops: float  # of one chip, each time
    chip: Chip
    plan: Plan

    @property
    def utilisation(self) -> float:
        """The most of a chip's products that the model can use."""
        return self.model_flops / (self.chip.flops * self.plan.bound_seconds)

    @property
    def rate(self) -> float:
        """Tokens a second of all chips, at the most."""
        return self.tokens / self.plan.bound_seconds


def train(config: ConfigDict, topology: str) -> Planned:
    """The plan of a train step.

    Raises:
      UserError: a wrong value, or a batch or mesh that does not divide.
      TooLarge: the step does not fit.
    """
    chip, mesh, recipe, model = _open(config, topology)
    length, rows = model.max_length, recipe.train.batch_size
    with sharding.laid_out(mesh, recipe.mesh.rules):
        recipes.check_division(recipe, model, length, mesh)
        parts = pretrain.make_parts(model, recipe, mesh)
        state = states.abstract(parts.specs, parts.optimizer, mesh, parts.ema)
        lowered = parts.train_step.lower(state, _batch(mesh, rows, length), None)
        plan = _measure(lowered, chip, mesh, config)
    each = costs.flops_per_token(
        costs.in_products(parts.specs, model.active_share),
        model.num_layers,
        model.num_heads,
        model.head_dim,
        length,
    )
    tokens = rows * length
    return Planned(
        "train step",
        topology,
        specs.count(parts.specs),
        tokens,
        each * tokens / mesh.size,
        chip,
        plan,
    )


def serve(config: ConfigDict, topology: str, rows: int) -> list[Planned]:
    """The plans of reading `rows` prompts of a row's length, and of a token each after
    them, with parameters in the type of products.

    Raises:
      UserError, TooLarge: as `train`.
    """
    chip, mesh, recipe, model = _open(config, topology)
    with sharding.laid_out(mesh, recipe.mesh.rules):
        recipes.check_split(model, model.max_length, mesh)
        if rows % (ways := sharding.ways(mesh, "batch")):
            raise UserError(f"--serve {rows} does not divide over {ways} devices")
        param_specs = transformer.param_specs(model)
        params = jax.tree.map(
            lambda spec, at: jax.ShapeDtypeStruct(
                spec.shape, jnp.dtype(model.dtype), sharding=at
            ),
            param_specs,
            sharding.of_specs(param_specs, mesh),
        )
        slots = model.max_length

        def read(params, batch):
            return decode.prefill(params, batch, model, slots)

        def write(params, batch, cache):
            hidden_BTD, _, cache = transformer.apply(params, batch, model, cache=cache)
            return transformer.unembed(params, hidden_BTD[:, -1], model), cache

        cache = _cache(model, rows, slots, mesh)
        lowered = {
            "prefill": jax.jit(read).lower(params, _batch(mesh, rows, slots)),
            "decode": jax.jit(write, donate_argnums=2).lower(
                params, _batch(mesh, rows, 1), cache
            ),
        }
        planned = []
        for what, each in lowered.items():
            tokens = rows * (slots if what == "prefill" else 1)
            flops = 2.0 * costs.in_products(param_specs, model.active_share) * tokens
            planned.append(
                Planned(
                    what,
                    topology,
                    specs.count(param_specs),
                    tokens,
                    flops / mesh.size,
                    chip,
                    _measure(each, chip, mesh, config),
                )
            )
    return planned


def sweep(
    config: ConfigDict, topology: str, report: Callable[[int, int, str], None]
) -> list[tuple[str, Planned]]:
    """Plans of the given mesh and others, with each remat policy: those that fit,
    fastest first.

    Args:
      report: is told how many are done, of how many, and what came of the last.

    Raises:
      UserError: the config or the topology is wrong, whatever the mesh.
    """
    _read(config)
    plans.topology(topology)
    tries = list(_tries(config, topology))
    fitting = []
    for number, (name, changed) in enumerate(tries, 1):
        try:
            planned = train(changed, topology)
            fitting.append((name, planned))
            said = f"{planned.rate:,.0f} tokens/s"
        except UserError as error:  # does not divide, or does not fit
            said = str(error)
        report(number, len(tries), f"{name}: {said}")
    return sorted(fitting, key=lambda each: -each[1].rate)


def _tries(config: ConfigDict, topology: str) -> Iterator[tuple[str, ConfigDict]]:
    """Meshes of data x fsdp and of fsdp x tensor; expert and context as they are."""
    chips = math.prod(int(n) for n in topology.partition(":")[2].split("x"))
    given = config.parallel
    if (rest := given.expert * given.context) < 1 or chips % rest:
        raise UserError(
            f"--sweep: parallel.expert {given.expert} and parallel.context"
            f" {given.context} do not divide {chips} chips"
        )
    meshes_ = [(given.data, given.fsdp, given.tensor)]
    for data, tensor in OTHERS:
        mesh = data, chips // rest // data // tensor, tensor
        if math.prod(mesh) * rest == chips and mesh not in meshes_:
            meshes_.append(mesh)
    for (data, fsdp, tensor), remat in itertools.product(meshes_, REMAT):
        changed = config.copy_and_resolve_references()
        changed.parallel.update({"data": data, "fsdp": fsdp, "tensor": tensor})
        changed.model.remat = remat
        yield f"data={data} fsdp={fsdp} tensor={tensor} remat={remat}", changed


def _open(
    config: ConfigDict, topology: str
) -> tuple[Chip, jax.sharding.Mesh, recipes.Recipe, TransformerConfig]:
    """What a config says, on the chips of a topology."""
    recipe, model = _read(config)
    chip, devices = plans.topology(topology)
    return chip, meshes.make(recipe.mesh, devices), recipe, model


def _read(config: ConfigDict) -> tuple[recipes.Recipe, TransformerConfig]:
    """What a config says.

    Raises:
      UserError: it is none of a training that starts from nothing.
    """
    if config.get("stage") != "pretrain":
        raise UserError("genlm plan takes a config of one pretrain stage")
    configs.require(config, pretrain.READS)
    recipe = pretrain.read(config)
    if config.source or config.tokenizer.kind == "run":
        raise UserError("a plan is made of a recipe that starts from random weights")
    is_byte = config.tokenizer.kind == "byte"
    vocab_size = ByteTokenizer().vocab_size if is_byte else config.tokenizer.vocab_size
    model = configs.to_dataclass(
        TransformerConfig,
        config.model,
        vocab_size=vocab_size,
        max_length=config.data.row_length,
    )
    return recipe, model


def _batch(mesh: jax.sharding.Mesh, rows: int, length: int) -> dict[str, Any]:
    at = sharding.of_batch(mesh)
    if length == 1:
        at = NamedSharding(mesh, PartitionSpec(at.spec[0]))

    def of(dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, length), dtype, sharding=at)

    names = ("tokens", "targets", "segments", "positions")
    return {**{name: of(jnp.int32) for name in names}, "weights": of(jnp.float32)}


def _cache(model: TransformerConfig, rows: int, slots: int, mesh: Any) -> Any:
    """An abstract cache: rows over the batch's axes, heads over the tensor's."""
    empty = jax.eval_shape(lambda: transformer.empty_cache(model, rows, slots))
    axes: dict[int, tuple[str, ...]] = {5: kv.AXES, 2: kv.AXES[1:3], 0: ()}

    def place(x: Any) -> jax.ShapeDtypeStruct:
        at = sharding.partition(x.shape, axes[x.ndim], mesh)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, at))

    return jax.tree.map(place, empty)


def _measure(lowered: Any, chip: Chip, mesh: Any, config: ConfigDict) -> Plan:
    """The plan; what does not fit is said with what would help."""
    try:
        return plans.measure(lowered, chip, mesh)
    except TooLarge as error:
        raise TooLarge(f"it does not fit: {error}. {_advice(config)}") from error


def _advice(config: ConfigDict) -> str:
    """The next setting to change, the cheapest first."""
    train = config.train
    if config.model.remat != "full":
        return "--config.model.remat=full keeps less for the backward pass"
    if not train.vocab_chunk:
        return "--config.train.vocab_chunk=8192 never holds all logits at once"
    ways = config.parallel.fsdp * max(config.parallel.data, 1)
    if train.batch_size // max(ways, 1) // train.num_microbatches > 1:
        twice = 2 * train.num_microbatches
        return f"--config.train.num_microbatches={twice} takes fewer rows at a time"
    return "take more chips on parallel.fsdp, or shorter rows"


class Budget(NamedTuple):
    """Of a training on so many tokens, at the least; the cost in the price's unit."""

    tokens: float
    days: float
    chip_hours: float
    cost: float


def budget(planned: Planned, tokens: float, price: float) -> Budget:
    """What `tokens` take, at a `price` of a chip-hour."""
    hours = tokens / planned.rate / 3600
    chip_hours = hours * planned.plan.chips
    return Budget(tokens, hours / 24, chip_hours, chip_hours * price)


def as_dict(planned: Planned) -> dict[str, Any]:
    """For --json: bytes, operations and seconds of a chip."""
    plan = planned.plan._asdict()
    plan["traffic"] = [t._asdict() for t in planned.plan.traffic]
    return {
        "what": planned.what,
        "topology": planned.topology,
        "parameters": planned.parameters,
        "tokens": planned.tokens,
        "model_flops": planned.model_flops,
        "bound_seconds": planned.plan.bound_seconds,
        "utilisation": planned.utilisation,
        "tokens_per_second": planned.rate,
        **plan,
    }
