"""ANSWERS OF A ROW: sums and scores of each, told apart by their segments.

Before: rows in which the answers to one prompt stand one after another, each with the
prompt before it and in a segment of its own (1, 2, ... K). After: losses of preference.
No answer sees another, as in any packed row.
"""

import jax
import jax.numpy as jnp


def membership(segments_BT: jax.Array, count: int) -> jax.Array:
    """is_of_BTK, float32: which of `count` answers each token is of."""
    return (segments_BT[:, :, None] == jnp.arange(1, count + 1)).astype(jnp.float32)


def sums(values_BT: jax.Array, segments_BT: jax.Array, count: int) -> jax.Array:
    """sums_BK of the values of each answer's tokens."""
    # products of zeros and ones: nothing is to be rounded
    return jnp.einsum(
        "BT,BTK->BK",
        values_BT.astype(jnp.float32),
        membership(segments_BT, count),
        precision="highest",
    )


def is_last(segments_BT: jax.Array) -> jax.Array:
    """is_last_BT: whether a token is the last of its segment (and no PAD)."""
    after_BT = jnp.pad(segments_BT[:, 1:], ((0, 0), (0, 1)))
    return (segments_BT > 0) & (segments_BT != after_BT)


def at_last(values_BT: jax.Array, segments_BT: jax.Array, count: int) -> jax.Array:
    """values_BK at the last token of each answer, its STOP; 0 where there is none."""
    picked_BT = jnp.where(is_last(segments_BT), values_BT, 0.0)
    return sums(picked_BT, segments_BT, count)
