"""ROTARY POSITIONS: a query and a key meet at their distance.

https://arxiv.org/abs/2104.09864, with the halves of a head rotated against each other
(the order of Llama in Hugging Face's files).
"""

import jax
import jax.numpy as jnp


def rotation(
    positions_BT: jax.Array, head_dim: int, theta: float
) -> tuple[jax.Array, jax.Array]:
    """cos and sin [B, T, 1, H/2] of the angles of `positions_BT`."""
    frequency = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angle = positions_BT[..., None, None].astype(jnp.float32) * frequency
    if jax.default_backend() != "cpu":
        return jnp.cos(angle), jnp.sin(angle)
    # A loop of two, whose result is kept: XLA thinks a cosine cheap, and on a CPU
    # would compute it again for every head of every layer, a tenth of the whole step.
    cos, sin = jax.lax.map(
        lambda is_sin: jnp.where(is_sin, jnp.sin(angle), jnp.cos(angle)),
        jnp.array([False, True]),
    )
    return cos, sin


def rotate(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x with each pair (i, i + H/2) of its last dim turned by its position's angle."""
    a, b = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return turned.astype(x_BTNH.dtype)
