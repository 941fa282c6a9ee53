"""A CHANGED MATRIX: w with the factors of LoRA beside it, multiplied as they are.

Before: lora.adapted and lora.several. After: layers.dense. The sum w + a b is never
formed, so that w may be in few bits, and no gradient of its size exists where only the
factors are trained.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from genlm.model import layers, quantized


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Changed(layers.Matrix):
    """y = x w + scale · dropout(x) a b; with m, DoRA, each column of it is as long as
    m says (see `gain`).

    Arrays lead with the dim of layers until a loop over these takes it off. Dropout
    needs a key for each layer. PEFT drops, in training, some of what DoRA multiplies
    with w as well; here w reads all of x.
    """

    w: Any
    a_Ir: jax.Array
    b_rO: jax.Array
    m_O: jax.Array | None
    key: jax.Array | None
    scale: float = dataclasses.field(metadata={"static": True})
    dropout: float = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.w.shape

    def times(self, x_XI: jax.Array, dtype: str) -> jax.Array:
        y_MO = layers.product(x_XI, self.w, dtype)
        dropped_XI = layers.dropout(x_XI, self.dropout, self.key)
        inner_Mr = self.scale * layers.product(dropped_XI, self.a_Ir, dtype)
        y_MO = y_MO + layers.matmul(inner_Mr, self.b_rO, dtype)
        if self.m_O is None:
            return y_MO
        return y_MO * gain(self.w, self.a_Ir, self.b_rO, self.m_O, self.scale)


def gain(
    w: Any, a_Ir: jax.Array, b_rO: jax.Array, m_O: jax.Array, scale: float
) -> jax.Array:
    """gain_O: what the columns of w + scale · a b are multiplied with to be as long as
    m says, float32.

    Equation 5 of https://arxiv.org/abs/2402.09353; their length before is a constant to
    gradients (section 4.3). |w + s a b|² is |w|² + 2 s w·(a b) + s² |a b|².
    """
    w, a_Ir, b_rO = jax.lax.stop_gradient((quantized.as_array(w), a_Ir, b_rO))
    w_IO = w.reshape(a_Ir.shape[0], -1)

    def dot(rows, columns):
        return jnp.matmul(rows, columns, precision=jax.lax.Precision.HIGHEST)

    across_O = jnp.sum(dot(a_Ir.T, w_IO) * b_rO, axis=0)
    own_O = jnp.sum(dot(dot(a_Ir.T, a_Ir), b_rO) * b_rO, axis=0)
    squares_O = jnp.sum(jnp.square(w_IO), axis=0)
    return m_O / _length(squares_O + 2 * scale * across_O + scale**2 * own_O)


def lengths(w: Any, rows: int) -> jax.Array:
    """length_LO of the columns of a weight of all layers, an array or Quantized."""

    def of_layer(w):
        w_IO = quantized.as_array(w).reshape(rows, -1)
        return _length(jnp.sum(jnp.square(w_IO), axis=0))

    return jax.lax.map(of_layer, w)


def _length(square: jax.Array) -> jax.Array:
    """Its root, and never 0, as m is divided by it."""
    return jnp.sqrt(jnp.maximum(square, jnp.finfo(jnp.float32).tiny))
