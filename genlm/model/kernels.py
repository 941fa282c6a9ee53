"""KERNELS: attention that others wrote for one kind of device, on a mesh.

Before: attention. Here are a kernel's place on a mesh, and cuDNN's flash attention on
NVIDIA GPUs (https://docs.nvidia.com/deeplearning/cudnn); a TPU's is `splash`.
"""

from typing import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from genlm.parallel import sharding

_HEAD_DIMS = 8, 128  # of cuDNN on any GPU since Ampere: multiples of it, up to it


def on_each_device(
    local: Callable[..., jax.Array],
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    of_rows: jax.Array,
) -> jax.Array:
    """out_BTNH of `local` on every device's rows and heads, which XLA
    cannot give to a kernel by itself.

    Args:
      of_rows: [B, ...], what goes with each row.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or mesh.manual_axes:
        return local(q_BTNH, k_BSKH, v_BSKH, of_rows)
    q_at, k_at = places(q_BTNH, k_BSKH, "head_dim")
    rows = PartitionSpec(q_at[0], *[None] * (of_rows.ndim - 1))
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(q_at, k_at, k_at, rows),
        out_specs=q_at,
        check_vma=False,
    )(q_BTNH, k_BSKH, v_BSKH, of_rows)


def places(
    q_BTNH: jax.Array, k_BSKH: jax.Array, length: str
) -> tuple[PartitionSpec, PartitionSpec]:
    """Where queries and keys live on the mesh that is set; `length` is the logical axis
    of their rows' length. Heads are split alike or not at all."""
    mesh = jax.sharding.get_abstract_mesh()
    q_at, k_at = (
        sharding.partition(x.shape, ("batch", length, heads, "head_dim"), mesh)
        for x, heads in ((q_BTNH, "heads"), (k_BSKH, "kv_heads"))
    )
    if q_at[2] != k_at[2]:  # some device would lack its queries' keys
        q_at = k_at = PartitionSpec(*q_at[:2], None, None)
    return q_at, k_at


def cudnn_fits(q_BTNH: jax.Array, k_BSKH: jax.Array) -> bool:
    """Whether cuDNN takes such queries and keys, for training too: 16 bits, and even
    lengths, which it asks for where there is a mask."""
    T, S, H = q_BTNH.shape[1], k_BSKH.shape[1], q_BTNH.shape[3]
    step, most = _HEAD_DIMS
    is_short = q_BTNH.dtype in (jnp.bfloat16, jnp.float16)
    return is_short and H % step == 0 and H <= most and T % 2 == S % 2 == 0


def cudnn(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    *,
    causal_square: bool,
    scale: float,
) -> jax.Array:
    """out_BTNH; scores never leave the chip. Arguments as of `attention.attend`."""

    def local(q_BTNH, k_BSKH, v_BSKH, mask_BTS):
        return jax.nn.dot_product_attention(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            mask=mask_BTS[:, None],
            is_causal=causal_square,  # blocks above the diagonal are left out
            scale=scale,
            implementation="cudnn",
        )

    return on_each_device(local, q_BTNH, k_BSKH, v_BSKH, mask_BTS)
