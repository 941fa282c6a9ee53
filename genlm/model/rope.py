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
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x with each pair (i, i + H/2) of its last dim turned by its position's angle."""
    halves = x_BTNH.astype(jnp.float32).reshape(*x_BTNH.shape[:-1], 2, -1)
    signed = jnp.stack([-sin, sin], axis=-2)
    # one loop over both halves: joining them would be a branch an element
    turned = halves * cos[..., None, :] + jnp.flip(halves, axis=-2) * signed
    return turned.reshape(x_BTNH.shape).astype(x_BTNH.dtype)
