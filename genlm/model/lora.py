"""LORA: a small change of some matrices, w + scale · a b, with few parameters.

https://arxiv.org/abs/2106.09685; scale is alpha / rank, or alpha / √rank with
rank-stabilised scaling (arXiv:2312.03732). The dims of a matrix that it reads from
make its rows I, those that it writes to its columns O: a_LIr, b_LrO.
"""

import dataclasses
import fnmatch
import math
from typing import Any, Mapping

from flax import traverse_util
import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.parallel.specs import ParamSpec, Specs


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """targets: patterns (of fnmatch) over paths such as layers/attention/q."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise UserError("not so: lora.rank and alpha are positive")

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


def matrices(specs: Specs) -> dict[str, ParamSpec]:
    """What can be changed, by its path: the matrices of attention and of one mlp for
    all tokens. Experts, routers, embeddings, norms and biases are none."""
    flat = traverse_util.flatten_dict(specs, sep="/")
    return {path: spec for path, spec in flat.items() if _is_matrix(spec)}


def _is_matrix(spec: ParamSpec) -> bool:
    is_of_block = spec.axes[0] == "layers" and "embed" in spec.axes
    return is_of_block and "experts" not in spec.axes


def lora_specs(specs: Specs, config: LoraConfig) -> Specs:
    """The tree of ParamSpec of the change: {a, b} in the place of each target; b starts
    at 0, so that nothing changes at first.

    Raises:
      UserError: a pattern matches none of `matrices`.
    """
    known = matrices(specs)
    found: dict[str, Any] = {}
    for pattern in config.targets:
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise UserError(
                f"lora.targets: {pattern!r} matches none of {', '.join(known)}"
            )
        for path in matching:
            for name, spec in _factors(known[path], config.rank).items():
                found[f"{path}/{name}"] = spec
    return traverse_util.unflatten_dict(found, sep="/")


def _factors(spec: ParamSpec, rank: int) -> dict[str, ParamSpec]:
    """a and b of one stacked matrix."""
    rows, columns = _sides(spec)
    axes, L = ("layers", "norm", "norm"), spec.shape[0]
    return {
        "a": ParamSpec((L, rows, rank), axes, scale=rows**-0.5),
        "b": ParamSpec((L, rank, columns), axes, init="zeros"),
    }


def _sides(spec: ParamSpec) -> tuple[int, int]:
    """(rows, columns) of one layer: `embed` is one side, all other dims the other."""
    dims = spec.shape[1:]
    num_rows = 1 if spec.axes[1] == "embed" else len(dims) - 1
    return math.prod(dims[:num_rows]), math.prod(dims[num_rows:])


def factors(change: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{path: {a, b}} of the tree of a change."""
    found: dict[str, dict[str, Any]] = {}
    for name, x in traverse_util.flatten_dict(change, sep="/").items():
        path, _, factor = name.rpartition("/")
        found.setdefault(path, {})[factor] = x
    return found


def merge(params: Any, change: Mapping[str, Any], config: LoraConfig) -> Any:
    """`params` with the change, a tree as `lora_specs` has it, added in, in float32."""
    flat = traverse_util.flatten_dict(params, sep="/")
    for path, ab in factors(change).items():
        product_LIO = jnp.einsum(
            "LIr,LrO->LIO",
            ab["a"],
            ab["b"],
            preferred_element_type=jnp.float32,
            precision=jax.lax.Precision.HIGHEST,
        )
        w = flat[path]
        flat[path] = w + config.scale * product_LIO.reshape(w.shape)
    return traverse_util.unflatten_dict(flat, sep="/")
