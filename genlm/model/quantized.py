"""QUANTIZED WEIGHTS: frozen matrices of blocks, each number in 8 or 4 bits.

Before: the float32 parameters of a model. After: layers.dense, alone or as what LoRA
changes (`changed`). A number is a code times a scale, made float32 inside the product,
there and again in the backward pass: no float copy outlives it.

  8 bits   code / 127 of the largest of its column (arXiv:2208.07339, without outliers)
  4 bits   NF4 of QLoRA (arXiv:2305.14314): one of 16 values, of the largest of a block
           of 64 in its column; two a byte. Scales are not quantized again.
"""

import dataclasses
from typing import Any, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from genlm.model import layers, matrices
from genlm.parallel import sharding
from genlm.parallel.specs import ParamSpec, Specs

BITS = (4, 8)
BLOCK = 64
NF4 = (  # appendix E: quantiles of a normal distribution, 0 among them
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634),
    *(0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)


class Layout(NamedTuple):
    """What the arrays do not say: the dims of one layer's weight, and of these the
    product of those it reads from."""

    shape: tuple[int, ...]
    rows: int
    bits: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized(layers.Matrix):
    """A weight in n blocks of rows (8 bits: one block), each column with its scale.

    Arrays lead with the dim of layers until a loop over these takes it off. Of 8 bits,
    codes are int8 [n, I, O]; of 4, uint8 [n, BLOCK / 2, O]: the first half of a block
    in the low bits, the other in the high.
    """

    codes: Any
    scales: Any  # float32 [n, O]
    layout: Layout = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape

    def matrix(self) -> jax.Array:
        """w [..., I, O] in float32, for any dims before."""
        codes = self.codes
        if self.layout.bits == 4:
            codes = jnp.concatenate([codes & 15, codes >> 4], axis=-2)
            values = _nf4(codes)
        else:
            values = codes.astype(jnp.float32)
        values = values * self.scales[..., None, :]
        *before, n, size, columns = values.shape
        return values.reshape(*before, n * size, columns)[..., : self.layout.rows, :]

    def times(self, x_XI: jax.Array, dtype: str) -> jax.Array:
        return _product(x_XI.reshape(-1, self.layout.rows), self, dtype)


def _nf4(codes: jax.Array) -> jax.Array:
    """NF4[codes]; on a TPU, where a look-up is slow, as choices by each bit."""
    if sharding.platform() != "tpu":
        return jnp.take(jnp.asarray(NF4, jnp.float32), codes, mode="clip")
    values: list[Any] = [jnp.float32(value) for value in NF4]
    for bit in range(4):
        is_set = (codes >> bit) & 1 == 1
        values = [jnp.where(is_set, b, a) for a, b in zip(values[::2], values[1::2])]
    return values[0]


def _product(x_MI: jax.Array, w: Quantized, dtype: str) -> jax.Array:
    """x w [M, O] in float32. Only x has a gradient, and only codes and scales are kept
    for it."""

    @jax.custom_vjp
    def product(x_MI, w):
        return forward(x_MI, w)[0]

    def forward(x_MI, w):
        # else w would be made once, before a loop or for both passes, and kept
        x_MI, own = jax.lax.optimization_barrier((x_MI, w))
        return layers.matmul(x_MI, own.matrix(), dtype), w

    def backward(w, gradient_MO):
        gradient_MO, w = jax.lax.optimization_barrier((gradient_MO, w))
        of_x = layers.matmul(gradient_MO, w.matrix(), dtype, "NK")
        return of_x.astype(x_MI.dtype), None

    product.defvjp(forward, backward)
    return product(x_MI, w)


def as_array(w: Any) -> jax.Array:
    """A weight, Quantized or not, as a plain array, of one layer or of all."""
    if not isinstance(w, Quantized):
        return w
    w_IO = w.matrix()
    return w_IO.reshape(*w_IO.shape[:-2], *w.shape)


def quantize(params: Any, specs: Specs, bits: int, donate: bool = False) -> Any:
    """`params` with the matrices of blocks Quantized, one after the other; on a mesh
    they live as `quantized_specs` says.

    Args:
      donate: each array is given up as soon as its codes are there.
    """
    assert bits in BITS, bits
    flat = traverse_util.flatten_dict(params, sep="/")
    for path, spec in matrices.of(specs).items():
        w, flat[path] = flat[path], jax.block_until_ready(
            _stack(flat[path], spec, bits)
        )
        if donate:
            w.delete()
    return traverse_util.unflatten_dict(flat, sep="/")


def quantized_specs(specs: Specs, bits: int) -> Specs:
    """The tree of ParamSpec of what `quantize` makes; for shapes and shardings, as
    codes are integers."""
    flat = traverse_util.flatten_dict(specs, sep="/")
    for path, spec in matrices.of(specs).items():
        flat[path] = _specs(spec, bits)
    return traverse_util.unflatten_dict(flat, sep="/")


def _specs(spec: ParamSpec, bits: int) -> Quantized:
    """A mesh axis splits the blocks, or, where it does not divide them, their rows."""
    (rows, columns), (read, written) = matrices.sides(spec), matrices.axes(spec)
    L, layout = spec.shape[0], Layout(spec.shape[1:], rows, bits)
    n, size = (-(-rows // BLOCK), BLOCK // 2) if bits == 4 else (1, rows)
    codes = ParamSpec((L, n, size, columns), ("layers", read, read, written))
    scales = ParamSpec((L, n, columns), ("layers", read, written))
    return Quantized(codes, scales, layout)


def _stack(w: jax.Array, spec: ParamSpec, bits: int) -> Quantized:
    """A weight of all layers, Quantized."""
    own = _specs(spec, bits)
    at, places = getattr(w, "sharding", None), None
    if isinstance(at, NamedSharding) and isinstance(at.mesh, Mesh):
        places = sharding.of_specs({"codes": own.codes, "scales": own.scales}, at.mesh)

    def quantize(w):
        w_LIO = w.reshape(w.shape[0], own.layout.rows, -1)
        # in turn, so that what lies between is of one layer
        return jax.lax.map(_nf4_codes if bits == 4 else _int8_codes, w_LIO)

    return Quantized(**jax.jit(quantize, out_shardings=places)(w), layout=own.layout)


def _int8_codes(w_IO: jax.Array) -> dict[str, jax.Array]:
    largest_O = jnp.max(jnp.abs(w_IO), axis=0)
    scales_O = jnp.where(largest_O > 0, largest_O / 127, 1.0)
    codes_IO = jnp.round(w_IO / scales_O).astype(jnp.int8)
    return {"codes": codes_IO[None], "scales": scales_O[None]}


def _nf4_codes(w_IO: jax.Array) -> dict[str, jax.Array]:
    """The nearest of the 16; a last block that is not full ends in zeros."""
    rows, columns = w_IO.shape
    w_nbO = jnp.pad(w_IO, ((0, -rows % BLOCK), (0, 0))).reshape(-1, BLOCK, columns)
    largest_nO = jnp.max(jnp.abs(w_nbO), axis=1)
    share_nbO = w_nbO / jnp.where(largest_nO > 0, largest_nO, 1.0)[:, None]
    between = [(a + b) / 2 for a, b in zip(NF4, NF4[1:])]
    codes_nbO = sum((share_nbO > x).astype(jnp.uint8) for x in between)
    low, high = jnp.split(codes_nbO, 2, axis=1)
    return {"codes": low | high << 4, "scales": largest_nO}
