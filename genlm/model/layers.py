"""LAYERS: the products, norms and activations that every block is made of.

Weights are float32 and cast to the compute type at use; sums are float32.
"""

import math

import jax
import jax.numpy as jnp

ACTIVATIONS = ("swiglu", "geglu", "gelu", "relu2")
GATED = ("swiglu", "geglu")


def dense(x: jax.Array, w: jax.Array, dtype: str, contract: int = 1) -> jax.Array:
    """x [..., *C] times w [*C, *out] -> [..., *out], over `contract` dims C.

    Operands in `dtype`, sums in float32, result in `dtype`. The product is of two
    matrices, every token a row: on a CPU the gradient of a product over two token dims
    takes twice as long. There a 'bfloat16' result stays float32, since writing it
    would cost more than it saves.
    """
    rows, out = x.shape[: x.ndim - contract], w.shape[contract:]
    inner = math.prod(w.shape[:contract])
    y = matmul(x.reshape(-1, inner), w.reshape(inner, -1), dtype).reshape(*rows, *out)
    return y if jax.default_backend() == "cpu" else y.astype(dtype)


def matmul(x_MK: jax.Array, w: jax.Array, dtype: str, dims: str = "KN") -> jax.Array:
    """x w [M, N] in float32; `dims` is the order of w's.

    The gradients are products of `dtype` too, with sums in float32: left to itself, a
    float32 gradient would meet a 'bfloat16' operand, and the product be one of float32.
    """

    @jax.custom_vjp
    def product(x_MK, w):
        return _dot(x_MK.astype(dtype), w.astype(dtype), "MK", dims)

    def forward(x_MK, w):
        x_MK, w = x_MK.astype(dtype), w.astype(dtype)
        return _dot(x_MK, w, "MK", dims), (x_MK, w)

    def backward(saved, gradient_MN):
        x, w = saved
        gradient_MN = gradient_MN.astype(dtype)
        of_x = _dot(gradient_MN, w, "MN", dims).astype(x_MK.dtype)
        if dims == "KN":
            return of_x, _dot(_transposed(x), gradient_MN, "KM", "MN")
        return of_x, _dot(_transposed(gradient_MN), x, "NM", "MK")

    product.defvjp(forward, backward)
    return product(x_MK, w)


def _dot(a, b, dims_a, dims_b):
    (shared,) = set(dims_a) & set(dims_b)
    contract = ((dims_a.index(shared),), (dims_b.index(shared),))
    return jax.lax.dot_general(
        a, b, (contract, ((), ())), preferred_element_type=jnp.float32
    )


def _transposed(x):
    import os
    if x.dtype == jnp.float32 or 'notr' in os.environ.get('GX',''): return x.T
    return jax.lax.cond(x[0, 0] == x[0, 0], lambda x: x.T, lambda x: jnp.full_like(x.T, jnp.nan), x)


def rms_norm(x: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """x / rms(x) * scale over the last dim, computed in float32.

    https://arxiv.org/abs/1910.07467
    """
    x32 = x.astype(jnp.float32)
    rms = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * rms * scale_D).astype(x.dtype)


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


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """x with a share `rate` of it zeroed and the rest scaled up; x if no key."""
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)
