"""ATTENTION: softmax(q kᵀ · scale) v within a document, looking back only.

https://arxiv.org/abs/1706.03762; grouped queries share keys (arXiv:2305.13245).
Softmax is in float32. No query looks further back than the model's max_length, so a
text longer than the rows it was trained on is read through a sliding window.
"""

import functools

import jax
import jax.numpy as jnp

from genlm.model import kernels, layers, splash
from genlm.model.layers import transposed_product
from genlm.model.sight import Sight
from genlm.parallel.sharding import platform


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    sight: Sight,
    mask_BTS: jax.Array,
    *,
    causal_square: bool,
    scale: float,
    cap: float = 0.0,
) -> jax.Array:
    """out_BTNH; a query that may look nowhere (PAD) gets the mean of some values.

    Args:
      mask_BTS: of `sight`, made once for all layers.
      causal_square: query t is key t, so that keys after a block of queries can be left
        out.
      scale: of a score.
      cap: scores stay within ± this, bent as `layers.soft_cap` does; 0 for no cap.
    """
    if platform() == "tpu" and causal_square and splash.fits(q_BTNH.shape[1]):
        return splash.attend(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            sight.query_segments_BT,
            window=sight.window,
            scale=scale,
            cap=cap,
        )
    if cap:
        return capped(q_BTNH, k_BSKH, v_BSKH, mask_BTS, scale, cap)
    if platform() == "cpu":
        return in_blocks(q_BTNH, k_BSKH, v_BSKH, mask_BTS, causal_square, scale)
    if platform() == "gpu" and kernels.cudnn_fits(q_BTNH, k_BSKH):
        return kernels.cudnn(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            mask_BTS,
            causal_square=causal_square,
            scale=scale,
        )
    return jax.nn.dot_product_attention(
        q_BTNH, k_BSKH, v_BSKH, mask=mask_BTS[:, None], scale=scale
    )


def capped(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    scale: float,
    cap: float,
) -> jax.Array:
    """`attend` with capped scores, which no kernel of jax.nn has."""
    scores_BKGTS = layers.soft_cap(scores(q_BTNH, k_BSKH) * scale, cap)
    lowest = jnp.finfo(jnp.float32).min
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKGTS, lowest)
    shares_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BSKH.dtype)
    out_BTKGH = product("BKGTS,BSKH->BTKGH", shares_BKGTS, v_BSKH)
    return out_BTKGH.reshape(q_BTNH.shape).astype(q_BTNH.dtype)


def scores(q_BTNH: jax.Array, k_BSKH: jax.Array) -> jax.Array:
    """q kᵀ [B, K, G, T, S] in float32."""
    B, T, _, H = q_BTNH.shape
    q_BTKGH = q_BTNH.reshape(B, T, k_BSKH.shape[2], -1, H)
    return product("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH)


def in_blocks(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    causal_square: bool,
    scale: float,
) -> jax.Array:
    """`attend` as a CPU is quick at it: plain batched products, a gradient by hand,
    and with 4 causal blocks 3/8 of the scores never computed."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    # batch and kv heads become one dim, so that every product is a plain batched one
    q_bGTH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    q_bGTH = q_bGTH.reshape(B * K, N // K, T, H) * jnp.asarray(scale, q_BTNH.dtype)
    k_bSH = k_BSKH.swapaxes(1, 2).reshape(B * K, -1, H)
    v_bSH = v_BSKH.swapaxes(1, 2).reshape(B * K, -1, H)
    bias_BTS = jnp.where(mask_BTS, 0.0, jnp.finfo(jnp.float32).min)
    blocks = 4 if causal_square and T % 4 == 0 and T >= 128 else 1
    out_bGTH = _attend(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks)
    out_BKGTH = out_bGTH.reshape(B, K, N // K, T, H)
    return out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H).astype(q_BTNH.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks: int) -> jax.Array:
    """Attention of T queries to S keys, each [b = batch * kv heads]; float32."""
    return _forward(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks)[0]


def _forward(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks):
    b, G, T, H = q_bGTH.shape
    kept, out = [], []
    for here, seen in _parts(T, k_bSH.shape[1], blocks):
        q_bQH = q_bGTH[:, :, here].reshape(b, -1, H)
        scores_bQS = product("bQH,bSH->bQS", q_bQH, k_bSH[:, seen])
        of_bias = bias_BTS[:, None, None, here, seen]
        scores_BKGTS = scores_bQS.reshape(len(of_bias), -1, G, *of_bias.shape[3:])
        scores_BKGTS = scores_BKGTS + of_bias
        highest = jnp.max(scores_BKGTS, axis=-1, keepdims=True)
        shares_bQS = jnp.exp(scores_BKGTS - highest).reshape(scores_bQS.shape)
        scale_bQ1 = 1 / jnp.sum(shares_bQS, axis=-1, keepdims=True)
        shares_bQS = shares_bQS.astype(v_bSH.dtype)
        out_bQH = product("bQS,bSH->bQH", shares_bQS, v_bSH[:, seen]) * scale_bQ1
        kept.append((shares_bQS, scale_bQ1))
        out.append(out_bQH.reshape(b, G, -1, H))
    out_bGTH = jnp.concatenate(out, axis=2)
    return out_bGTH, (q_bGTH, k_bSH, v_bSH, kept, out_bGTH)


def _backward(blocks, saved, gradient_bGTH):
    """The gradients, in products that never contract the long operand's first dim: a
    CPU does those at half the rate. Equation 4 of arXiv:2205.14135 for the softmax."""
    q_bGTH, k_bSH, v_bSH, kept, out_bGTH = saved
    b, G, T, H = q_bGTH.shape
    # of three dims: XLA's sum over the last of four (or two) takes ten times as long
    weighted_bQH = (gradient_bGTH * out_bGTH).reshape(b, G * T, H)
    mean_bGT1 = jnp.sum(weighted_bQH, axis=-1).reshape(b, G, T, 1)
    of_q = []
    of_k_bHS = of_v_bHS = jnp.zeros((b, H, k_bSH.shape[1]))
    for (here, seen), block in zip(_parts(T, k_bSH.shape[1], blocks), kept):
        shares_bQS, scale_bQ1 = block
        q_bQH, gradient_bQH, mean_bQ1 = (
            x[:, :, here].reshape(b, -1, x.shape[-1])
            for x in (q_bGTH, gradient_bGTH, mean_bGT1)
        )
        gradient_bQH = (gradient_bQH * scale_bQ1).astype(v_bSH.dtype)
        of_shares_bQS = product("bQH,bSH->bQS", gradient_bQH, v_bSH[:, seen])
        of_scores_bQS = shares_bQS * (of_shares_bQS - mean_bQ1 * scale_bQ1)
        of_scores_bQS = of_scores_bQS.astype(q_bQH.dtype)
        of_q_bQH = product("bQS,bSH->bQH", of_scores_bQS, k_bSH[:, seen])
        of_q.append(of_q_bQH.reshape(b, G, -1, H))
        of_k_bHS = of_k_bHS.at[:, :, seen].add(transposed_product(q_bQH, of_scores_bQS))
        of_v_bHS = of_v_bHS.at[:, :, seen].add(
            transposed_product(gradient_bQH, shares_bQS)
        )
    return (
        jnp.concatenate(of_q, axis=2).astype(q_bGTH.dtype),
        of_k_bHS.astype(k_bSH.dtype).swapaxes(1, 2),
        of_v_bHS.astype(v_bSH.dtype).swapaxes(1, 2),
        None,
    )


_attend.defvjp(_forward, _backward)


def _parts(T: int, S: int, blocks: int) -> list[tuple[slice, slice]]:
    """(queries, the keys they may look at) of each block; one block sees all."""
    if blocks == 1:
        return [(slice(0, T), slice(0, S))]
    ends = [i * T // blocks for i in range(blocks + 1)]
    return [(slice(a, b), slice(0, b)) for a, b in zip(ends, ends[1:])]


def product(dims: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """An einsum with sums in float32."""
    return jnp.einsum(dims, a, b, preferred_element_type=jnp.float32)
