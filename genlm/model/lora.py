"""LORA: a small change of some matrices, w + scale · a b, with few parameters.

https://arxiv.org/abs/2106.09685; scale is alpha / rank, or alpha / √rank with
rank-stabilised scaling (arXiv:2312.03732). The dims of a matrix that it reads from
make its rows I, all others its columns O: a_LIr, b_LrO.
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


def lora_specs(specs: Specs, config: LoraConfig) -> Specs:
    """The tree of ParamSpec of the change: {path: {a, b}} for each target; b starts at
    0, so that nothing changes at first.

    Raises:
      UserError: a pattern matches no matrix of a block.
    """
    flat = traverse_util.flatten_dict(specs, sep="/")
    matrices = {path: spec for path, spec in flat.items() if _is_matrix(path, spec)}
    found: dict[str, Any] = {}
    for pattern in config.targets:
        matching = fnmatch.filter(matrices, pattern)
        if not matching:
            raise UserError(
                f"lora.targets: {pattern!r} matches none of {', '.join(matrices)}"
            )
        for path in matching:
            L, rows, columns = _sides(path, matrices[path])
            found[path] = {
                "a": ParamSpec(
                    (L, rows, config.rank),
                    ("layers", "norm", "norm"),
                    scale=rows**-0.5,
                ),
                "b": ParamSpec(
                    (L, config.rank, columns), ("layers", "norm", "norm"), init="zeros"
                ),
            }
    return found


def merge(params: Any, change: Mapping[str, Any], config: LoraConfig) -> Any:
    """`params` with the change added in, in float32."""
    flat = traverse_util.flatten_dict(params, sep="/")
    for path, ab in change.items():
        w = flat[path]
        product = jnp.einsum(
            "LIr,LrO->LIO",
            ab["a"],
            ab["b"],
            preferred_element_type=jnp.float32,
            precision=jax.lax.Precision.HIGHEST,
        )
        flat[path] = w + config.scale * product.reshape(w.shape)
    return traverse_util.unflatten_dict(flat, sep="/")


def _is_matrix(path: str, spec: ParamSpec) -> bool:
    is_expert = "experts" in spec.axes
    return spec.axes[0] == "layers" and "embed" in spec.axes and not is_expert


def _sides(path: str, spec: ParamSpec) -> tuple[int, int, int]:
    """(layers, rows, columns): of attention's output the heads are the rows."""
    L, *dims = spec.shape
    num_rows = 2 if path.endswith("/o") else 1
    return L, math.prod(dims[:num_rows]), math.prod(dims[num_rows:])
