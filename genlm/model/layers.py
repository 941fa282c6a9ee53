"""LAYERS: the products, norms and activations that every block is made of.

Weights are float32 and cast to the compute type at use; sums are float32.
"""

import abc
import math
from typing import Any

import jax
import jax.numpy as jnp

from genlm.parallel.sharding import platform

ACTIVATIONS = ("swiglu", "geglu", "gelu", "relu2")
GATED = ("swiglu", "geglu")


class Matrix(abc.ABC):
    """A weight of `dense` that is no plain array: one in few bits, or with a change.

    I stands for all dims that it reads from, as one, and O for those it writes to.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one layer's, as that of the array in its place."""

    @abc.abstractmethod
    def times(self, x_XI: jax.Array, dtype: str) -> jax.Array:
        """x w [M, O] in float32; the M rows are all dims X of x, as one."""


def dense(x: jax.Array, w: Any, dtype: str, contract: int = 1) -> jax.Array:
    """x [..., *C] times w [*C, *out] -> [..., *out], over `contract` dims C; w is an
    array or a `Matrix`.

    Operands in `dtype`, sums in float32, result in `dtype`. The product is of two
    matrices, every token a row: on a CPU the gradient of a product over two token dims
    takes twice as long. There a 'bfloat16' result stays float32, since writing it
    would cost more than it saves.
    """
    rows, out = x.shape[: x.ndim - contract], w.shape[contract:]
    inner = math.prod(w.shape[:contract])
    y = product(x.reshape(*rows, inner), w, dtype).reshape(*rows, *out)
    return y if platform() == "cpu" else y.astype(dtype)


def product(x_XI: jax.Array, w: Any, dtype: str) -> jax.Array:
    """x w [M, O] in float32; the M rows are all dims X of x, as one."""
    if isinstance(w, Matrix):
        return w.times(x_XI, dtype)
    x_MI = x_XI.reshape(-1, x_XI.shape[-1])
    return matmul(x_MI, w.reshape(x_MI.shape[-1], -1), dtype)


def matmul(x_MK: jax.Array, w: jax.Array, dtype: str, dims: str = "KN") -> jax.Array:
    """x w [M, N] in float32; `dims` is the order of w's.

    The gradients are products of `dtype` too, with sums in float32: left to itself, a
    float32 gradient would meet a 'bfloat16' operand, and the product be one of float32.
    """

    @jax.custom_vjp
    def product(x_MK, w):
        return forward(x_MK, w)[0]

    def forward(x_MK, w):
        x_MK, w = x_MK.astype(dtype), w.astype(dtype)
        y_MN = jnp.einsum(f"MK,{dims}->MN", x_MK, w, preferred_element_type=jnp.float32)
        return y_MN, (x_MK, w)

    def backward(saved, gradient_MN):
        x, w = saved
        gradient_MN = gradient_MN.astype(dtype)
        of_x = jnp.einsum(
            f"MN,{dims}->MK", gradient_MN, w, preferred_element_type=jnp.float32
        ).astype(x_MK.dtype)
        if dims == "KN":
            return of_x, transposed_product(x, gradient_MN)
        return of_x, transposed_product(gradient_MN, x)

    product.defvjp(forward, backward)
    return product(x_MK, w)


def transposed_product(a_bMK: jax.Array, b_bMN: jax.Array) -> jax.Array:
    """aᵀ b [..., K, N] in float32, as a weight's gradient needs."""
    mesh = jax.sharding.get_abstract_mesh()
    one_cpu = platform() == "cpu" and mesh.size <= 1
    if one_cpu and a_bMK.dtype == jnp.bfloat16:
        return _transposed_product_on_cpu(a_bMK, b_bMN)
    return jnp.einsum(
        "...MK,...MN->...KN", a_bMK, b_bMN, preferred_element_type=jnp.float32
    )


@jax.custom_batching.custom_vmap
def _transposed_product_on_cpu(a_bMK, b_bMN):
    """XLA makes this product one of float32 on a CPU. A transpose that it cannot fold
    into it, being behind a branch that it cannot decide, keeps it one of 'bfloat16':
    twice as fast. `a` should be the smaller of the two."""
    first = a_bMK.ravel()[0]
    a_bKM = jax.lax.cond(
        first == first,
        lambda a: a.swapaxes(-1, -2),
        lambda a: jnp.full_like(a.swapaxes(-1, -2), jnp.nan),
        a_bMK,
    )
    return jnp.matmul(a_bKM, b_bMN, preferred_element_type=jnp.float32)


@_transposed_product_on_cpu.def_vmap
def _(axis_size, batched, a_bMK, b_bMN):
    """Under vmap a branch becomes a choice, which XLA folds away: float32 then."""
    a_bMK, b_bMN = a_bMK.astype(jnp.float32), b_bMN.astype(jnp.float32)
    return jnp.einsum("...MK,...MN->...KN", a_bMK, b_bMN), True


def rms_norm(x: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """x / rms(x) * scale over the last dim, computed in float32.

    https://arxiv.org/abs/1910.07467
    """
    x32 = x.astype(jnp.float32)
    rms = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * rms * scale_D).astype(x.dtype)


def layer_norm(
    x: jax.Array, scale_D: jax.Array, bias_D: jax.Array, eps: float
) -> jax.Array:
    """(x - mean) / deviation * scale + bias over the last dim, computed in float32.

    https://arxiv.org/abs/1607.06450
    """
    x32 = x.astype(jnp.float32)
    x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    rms = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * rms * scale_D + bias_D).astype(x.dtype)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """x bent to stay within ± cap (arXiv:2408.00118, section 2); x if cap is 0."""
    return cap * jnp.tanh(x / cap) if cap else x


def activate(x: jax.Array, gate: jax.Array | None, activation: str) -> jax.Array:
    """The non-linearity of an mlp; gated ones (arXiv:2002.05202) use `gate` as well.

    'relu2' is max(x, 0)² (arXiv:2109.08668); 'gelu' its tanh form (arXiv:1606.08415).
    """
    if activation == "gelu":
        return jax.nn.gelu(x)
    if activation == "relu2":
        return jnp.square(jax.nn.relu(x))
    assert gate is not None and activation in GATED, activation
    return x * (jax.nn.silu(gate) if activation == "swiglu" else jax.nn.gelu(gate))


def embedding_noise(
    segments_BT: jax.Array, dim: int, alpha: float, key: jax.Array
) -> jax.Array:
    """noise_BTD for embeddings: uniform within ± alpha / √(tokens of the document in
    its row · D), and none at PAD (NEFTune, algorithm 1 of arXiv:2310.05914)."""
    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    bound_BT = alpha / jnp.sqrt(dim * jnp.sum(same_BTT, axis=-1))
    bound_BT = jnp.where(segments_BT > 0, bound_BT, 0.0)
    shape = (*segments_BT.shape, dim)
    return jax.random.uniform(key, shape, minval=-1, maxval=1) * bound_BT[..., None]


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """x with a share `rate` of it zeroed and the rest scaled up; x if no key."""
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)
