"""GGUF, THE BLOCKS: weights packed a few bits each -> float32.

Before: gguf_walk, which knows where they are. After: gguf. A block is a run of weights
of one row that share a scale. The `gguf` library knows how each kind is unpacked; here
it is given a few rows at a time, so that a large tensor needs little more memory than
its result.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
from typing import NamedTuple

import numpy as np

from genlm.errors import UserError

KINDS = (
    *("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q4_K", "Q5_K", "Q6_K"),
)
_CHUNK = 1 << 20  # weights unpacked at a time


class Kind(NamedTuple):
    """A way to pack weights."""

    name: str
    weights: int  # in a block
    num_bytes: int  # of a block


def kind(number: int) -> Kind:
    """The kind of blocks that has this number in a file.

    Raises:
      UserError: it is not read here (an end of a sentence about the tensor).
    """
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    known = {k.value: k.name for k in GGMLQuantizationType}
    if (name := known.get(number, "which gguf does not know")) not in KINDS:
        raise UserError(f"is of type {number}, {name}; read are {', '.join(KINDS)}")
    return Kind(name, *GGML_QUANT_SIZES[GGMLQuantizationType[name]])


def rows(data: mmap.mmap, kind: Kind, start: int, shape: tuple[int, int]) -> np.ndarray:
    """The [rows, weights of a row] that begin at byte `start`: float32, own memory."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    num_rows, length = shape
    row_bytes = length // kind.weights * kind.num_bytes
    packed = np.frombuffer(data, np.uint8, num_rows * row_bytes, start)
    packed = packed.reshape(num_rows, row_bytes)
    weights = np.empty(shape, np.float32)
    step = max(1, _CHUNK // length)
    for first in range(0, num_rows, step):
        some = packed[first : first + step]
        weights[first : first + step] = dequantize(
            some, GGMLQuantizationType[kind.name]
        )
    _forget(data, start, packed.nbytes)
    return weights


def _forget(data: mmap.mmap, start: int, num_bytes: int) -> None:
    """Let the pages that were read go, or they would count as memory in use."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        data.madvise(mmap.MADV_DONTNEED, first, start + num_bytes - first)


def require_library() -> None:
    """Raises:
    UserError: the `gguf` library is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UserError("GGUF files need it: pip install 'genlm[hf]'") from error
