"""THE MATRICES OF BLOCKS: what LoRA may change, and what may be held in few bits.

Both are `layers.Matrix` in the place of an array, so that only arrays count that
nothing but layers.dense reads: those of attention, and of one mlp for all tokens.
Experts, routers, embeddings, norms and biases are none.
"""

import math

from flax import traverse_util

from genlm.parallel.specs import ParamSpec, Specs


def of(specs: Specs) -> dict[str, ParamSpec]:
    """Each by its path, such as layers/attention/q."""
    flat = traverse_util.flatten_dict(specs, sep="/")
    return {path: spec for path, spec in flat.items() if _is_matrix(spec)}


def _is_matrix(spec: ParamSpec) -> bool:
    is_of_block = spec.axes[0] == "layers" and "embed" in spec.axes
    return is_of_block and "experts" not in spec.axes


def sides(spec: ParamSpec) -> tuple[int, int]:
    """(I, O), rows and columns of one layer's: what it reads from, and writes to."""
    num_rows, dims = _num_rows(spec), spec.shape[1:]
    return math.prod(dims[:num_rows]), math.prod(dims[num_rows:])


def axes(spec: ParamSpec) -> tuple[str, str]:
    """The logical axes of I and O: the first of those that each side is made of."""
    return spec.axes[1], spec.axes[1 + _num_rows(spec)]


def _num_rows(spec: ParamSpec) -> int:
    """How many dims are rows: `embed` is one side, all other dims the other."""
    return 1 if spec.axes[1] == "embed" else len(spec.axes) - 2
