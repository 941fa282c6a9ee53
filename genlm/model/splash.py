"""SPLASH ATTENTION: on a TPU, scores never leave the chip.

Before: attention, of whole rows on a TPU. The kernel is Pallas's own; here are its
masks and its blocks.
https://docs.jax.dev/en/latest/pallas/tpu/index.html
"""

import functools

import jax
import jax.numpy as jnp

from genlm.model import kernels

LANES = 128  # of a TPU: rows come in multiples of it
_BLOCK = 512  # queries, and keys, of a block at the most


def fits(length: int) -> bool:
    """Whether rows of that length are made of whole blocks."""
    return length % LANES == 0


def attend(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    *,
    window: int,
    scale: float,
    cap: float,
    interpret: bool = False,
) -> jax.Array:
    """out_BTNH of whole rows; arguments as of `attention.attend`.

    Args:
      interpret: run it without a TPU, slowly.
    """
    local = functools.partial(
        _attend, window=window, scale=scale, cap=cap, interpret=interpret
    )
    return kernels.on_each_device(local, q_BTNH, k_BTKH, v_BTKH, segments_BT)


def _attend(q_BTNH, k_BTKH, v_BTKH, segments_BT, *, window, scale, cap, interpret):
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as splash,
    )

    T, N = q_BTNH.shape[1:3]
    run = _kernel(T, N, window, cap, interpret)
    q_BNTH = q_BTNH.swapaxes(1, 2) * jnp.asarray(scale, q_BTNH.dtype)
    k_BKTH, v_BKTH = k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)

    def of_row(q_NTH, k_KTH, v_KTH, segments_T):
        segments = splash.SegmentIds(segments_T, segments_T)
        return run(q_NTH, k_KTH, v_KTH, segments)

    out_BNTH = jax.vmap(of_row)(q_BNTH, k_BKTH, v_BKTH, segments_BT)
    return out_BNTH.swapaxes(1, 2).astype(q_BTNH.dtype)


def _kernel(length: int, heads: int, window: int, cap: float, interpret: bool):
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as splash,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    square = (length, length)
    one: masks.Mask = masks.CausalMask(square)
    if window < length:
        one = masks.LocalMask(square, (window - 1, 0), 0)
    block = next(b for b in (_BLOCK, 256, LANES) if length % b == 0)
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return splash.make_splash_mha(
        masks.MultiHeadMask([one] * heads),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=cap or None,
        interpret=interpret,
    )
