"""LORA: a small change of some matrices, w + scale · a b, with few parameters.

https://arxiv.org/abs/2106.09685; scale is alpha / rank, or alpha / √rank with
rank-stabilised scaling (arXiv:2312.03732). The dims of a matrix that it reads from
make its rows I, those that it writes to its columns O: a_LIr, b_LrO. DoRA
(arXiv:2402.09353) makes each column of the sum as long as m_LO says.

Before: the parameters of a base, or Quantized ones. After: `adapted` is what a stage
trains through, `merge` what it may write.
"""

import dataclasses
import fnmatch
from typing import Any, Mapping, Sequence
import zlib

from flax import traverse_util
import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.model import changed, matrices, quantized
from genlm.model.changed import Changed
from genlm.model.several import beside
from genlm.parallel.specs import ParamSpec, Specs, initialize


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """targets: patterns (of fnmatch) over paths such as layers/attention/q; dropout: of
    what a reads, in training; dora: the columns' lengths are learnt apart."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    rank_stabilised: bool = False
    dropout: float = 0.0
    dora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise UserError("not so: lora.rank and alpha are positive")
        if not 0 <= self.dropout < 1:
            raise UserError("not so: lora.dropout is in [0, 1)")

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


def lora_specs(specs: Specs, config: LoraConfig) -> Specs:
    """The tree of ParamSpec of the change: {a, b}, and m with DoRA, in the place of
    each target; `initial` is what they begin with.

    Raises:
      UserError: a pattern matches none of `matrices.of`.
    """
    known = matrices.of(specs)
    found: dict[str, Any] = {}
    for pattern in config.targets:
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise UserError(
                f"lora.targets: {pattern!r} matches none of {', '.join(known)}"
            )
        for path in matching:
            for name, spec in _factors(known[path], config).items():
                found[f"{path}/{name}"] = spec
    return traverse_util.unflatten_dict(found, sep="/")


def _factors(spec: ParamSpec, config: LoraConfig) -> dict[str, ParamSpec]:
    """a and b of one stacked matrix, and m with DoRA."""
    rows, columns = matrices.sides(spec)
    axes, L = ("layers", "norm", "norm"), spec.shape[0]
    found = {
        "a": ParamSpec((L, rows, config.rank), axes, scale=rows**-0.5),
        "b": ParamSpec((L, config.rank, columns), axes, init="zeros"),
    }
    if config.dora:
        found["m"] = ParamSpec((L, columns), axes[:2], init="ones")
    return found


def factors(change: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{path: {a, b}}, with m too of DoRA, of the tree of a change."""
    found: dict[str, dict[str, Any]] = {}
    for name, x in traverse_util.flatten_dict(change, sep="/").items():
        path, _, factor = name.rpartition("/")
        found.setdefault(path, {})[factor] = x
    return found


def initial(params: Any, specs: Specs, config: LoraConfig, key: jax.Array) -> Any:
    """The tree of a change of `params` that changes nothing yet: a is random, b is 0,
    and m, with DoRA, the length of each column.

    Args:
      specs: of the model's parameters, which may be Quantized.
    """
    change = initialize(lora_specs(specs, config), key)
    if not config.dora:
        return change
    flat = traverse_util.flatten_dict(params, sep="/")
    found = traverse_util.flatten_dict(change, sep="/")
    for path, x in factors(change).items():
        found[f"{path}/m"] = changed.lengths(flat[path], x["a"].shape[1])
    return traverse_util.unflatten_dict(found, sep="/")


def adapted(
    params: Any,
    change: Mapping[str, Any],
    config: LoraConfig,
    key: jax.Array | None = None,
) -> Any:
    """`params` for transformer.apply with the change beside each matrix: what `merge`
    makes, and never w + a b. Gradients reach the change; where only those are asked
    for, none of a base's matrix is computed.

    Args:
      params: arrays, or Quantized.
      key: for config.dropout; without one there is none.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    for path, x in factors(change).items():
        flat[path] = Changed(
            flat[path],
            x["a"],
            x["b"],
            x.get("m"),
            _keys(key, path, x["a"].shape[0]) if config.dropout else None,
            config.scale,
            config.dropout,
        )
    return traverse_util.unflatten_dict(flat, sep="/")


def _keys(key: jax.Array | None, path: str, layers: int) -> jax.Array | None:
    """A key for each layer of the matrix at a path."""
    if key is None:
        return None
    return jax.random.split(jax.random.fold_in(key, zlib.crc32(path.encode())), layers)


def several(
    params: Any,
    changes: Sequence[Mapping[str, Any]],
    configs: Sequence[LoraConfig],
    adapter_B: Any,
) -> Any:
    """`params` for batches of B rows, each changed by one of several changes: what
    `merge` makes of that one, over a base that is in memory once.

    Args:
      adapter_B: which of `changes` is a row's; -1 for none.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    found = [factors(change) for change in changes]
    scales = [config.scale for config in configs]
    for path in dict.fromkeys(path for each in found for path in each):
        own = {i: each[path] for i, each in enumerate(found) if path in each}
        flat[path] = beside(flat[path], own, scales, jnp.asarray(adapter_B))
    return traverse_util.unflatten_dict(flat, sep="/")


def merge(params: Any, change: Mapping[str, Any], config: LoraConfig) -> Any:
    """`params` with the change, a tree as `lora_specs` has it, added in, in float32."""
    flat = traverse_util.flatten_dict(params, sep="/")
    for path, x in factors(change).items():
        w = quantized.as_array(flat[path])
        w_LIO = w.reshape(*x["a"].shape[:2], -1)
        product_LIO = jnp.einsum(
            "LIr,LrO->LIO",
            x["a"],
            x["b"],
            preferred_element_type=jnp.float32,
            precision=jax.lax.Precision.HIGHEST,
        )
        sum_LIO = w_LIO + config.scale * product_LIO
        if "m" in x:
            length_LO = changed.lengths(sum_LIO, x["a"].shape[1])
            sum_LIO = sum_LIO * (x["m"] / length_LO)[:, None]
        flat[path] = sum_LIO.reshape(w.shape)
    return traverse_util.unflatten_dict(flat, sep="/")
