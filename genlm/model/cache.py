"""THE KV CACHE: keys and values of what was read, so that it is not read again.

Rows are padded on the left, so every row writes at the same slot; slots of PAD and
slots not yet written have segment 0 and are never attended to.
"""

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


def write(slots_BS: jax.Array, new_BT: jax.Array, index: jax.Array) -> jax.Array:
    """`slots` [B, S, ...] with `new` [B, T, ...] in slots index .. index + T."""
    start = (0, index) + (0,) * (slots_BS.ndim - 2)
    return jax.lax.dynamic_update_slice(slots_BS, new_BT.astype(slots_BS.dtype), start)
