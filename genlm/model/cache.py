"""THE KV CACHE: keys and values of what was read, so that it is not read again.

Rows are padded on the left, so every row writes at the same slot; slots of PAD and
slots not yet written have segment 0 and are never attended to.
"""

import dataclasses
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from genlm.parallel.sharding import constrain

# logical axes of keys and values; slots, like a head's dim, are whole everywhere
AXES = ("layers", "batch", "head_dim", "kv_heads", "head_dim")


@struct.dataclass
class Cache:
    """Keys and values of S slots for B rows."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    segments_BS: jax.Array
    positions_BS: jax.Array
    index: jax.Array  # scalar int32: slots written so far

    @property
    def num_slots(self) -> int:
        return self.segments_BS.shape[1]

    def repeated(self, count: int) -> "Cache":
        """Each row `count` times, one beside another."""
        return dataclasses.replace(
            self,
            k_LBSKH=jnp.repeat(self.k_LBSKH, count, axis=1),
            v_LBSKH=jnp.repeat(self.v_LBSKH, count, axis=1),
            segments_BS=jnp.repeat(self.segments_BS, count, axis=0),
            positions_BS=jnp.repeat(self.positions_BS, count, axis=0),
        )


def empty(
    *, layers: int, batch: int, slots: int, kv_heads: int, head_dim: int, dtype: str
) -> Cache:
    """A cache with nothing in it."""
    shape = (layers, batch, slots, kv_heads, head_dim)
    return Cache(
        k_LBSKH=constrain(jnp.zeros(shape, dtype), *AXES),
        v_LBSKH=constrain(jnp.zeros(shape, dtype), *AXES),
        segments_BS=constrain(jnp.zeros((batch, slots), jnp.int32), *AXES[1:3]),
        positions_BS=constrain(jnp.zeros((batch, slots), jnp.int32), *AXES[1:3]),
        index=jnp.zeros((), jnp.int32),
    )


class Layer(NamedTuple):
    """The keys and values of one layer, in the stacks that all of them share."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    number: int


Pair = tuple[jax.Array, jax.Array]  # keys and values


def append(layer: Layer | Pair, new: Pair, index: jax.Array) -> tuple[Pair, Pair]:
    """All keys and values [B, S, K, H] of a layer, `new` [B, T, K, H] of them in slots
    index .. index + T; and what they are kept in: the stacks or, of a layer that is by
    itself, they themselves."""
    if not isinstance(layer, Layer):
        k_BSKH, v_BSKH = (write(old, x, index) for old, x in zip(layer, new))
        return (k_BSKH, v_BSKH), (k_BSKH, v_BSKH)
    start = (layer.number, 0, index, 0, 0)
    k_LBSKH, v_LBSKH = (
        jax.lax.dynamic_update_slice(stack, x[None].astype(stack.dtype), start)
        for stack, x in zip((layer.k_LBSKH, layer.v_LBSKH), new)
    )
    return (k_LBSKH[layer.number], v_LBSKH[layer.number]), (k_LBSKH, v_LBSKH)


def write(slots_BS: jax.Array, new_BT: jax.Array, index: jax.Array) -> jax.Array:
    """`slots` [B, S, ...] with `new` [B, T, ...] in slots index .. index + T."""
    start = (0, index) + (0,) * (slots_BS.ndim - 2)
    return jax.lax.dynamic_update_slice(slots_BS, new_BT.astype(slots_BS.dtype), start)
