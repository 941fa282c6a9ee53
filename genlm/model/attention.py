"""ATTENTION: softmax(q kᵀ / √H) v within a document, looking back only.

https://arxiv.org/abs/1706.03762; grouped queries share keys (arXiv:2305.13245).
Softmax is in float32. No query looks further back than the model's max_length, so a
text longer than the rows it was trained on is read through a sliding window.
"""

import jax
import jax.numpy as jnp


def mask(
    *,
    query_slots_T: jax.Array,
    key_slots_S: jax.Array,
    query_segments_BT: jax.Array,
    key_segments_BS: jax.Array,
    query_positions_BT: jax.Array,
    key_positions_BS: jax.Array,
    window: int,
) -> jax.Array:
    """mask_BTS: true where a query may look: its own document, no later, no further
    back than `window` positions."""
    causal_TS = key_slots_S[None, :] <= query_slots_T[:, None]
    same_BTS = query_segments_BT[:, :, None] == key_segments_BS[:, None, :]
    real_BTS = (key_segments_BS > 0)[:, None, :]
    distance_BTS = query_positions_BT[:, :, None] - key_positions_BS[:, None, :]
    return causal_TS & same_BTS & real_BTS & (distance_BTS < window)


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    *,
    causal_square: bool,
) -> jax.Array:
    """out_BTNH; a query that may look nowhere (PAD) gets the mean of some values.

    Args:
      causal_square: query t is key t, so that keys after a block of queries can be left
        out: with 4 blocks 3/8 of the scores are never computed.
    """
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    # batch and kv heads become one dim, so that every product is a plain batched one
    q_bGTH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    q_bGTH = q_bGTH.reshape(B * K, N // K, T, H) * jnp.asarray(H**-0.5, q_BTNH.dtype)
    k_bSH = k_BSKH.swapaxes(1, 2).reshape(B * K, -1, H)
    v_bSH = v_BSKH.swapaxes(1, 2).reshape(B * K, -1, H)
    bias_BTS = jnp.where(mask_BTS, 0.0, jnp.finfo(jnp.float32).min)
    blocks = 4 if causal_square and T % 4 == 0 and T >= 128 else 1
    out = []
    for i in range(blocks):
        here = slice(i * T // blocks, (i + 1) * T // blocks)
        seen = slice(0, here.stop if causal_square else None)
        out.append(
            _block(
                q_bGTH[:, :, here],
                k_bSH[:, seen],
                v_bSH[:, seen],
                bias_BTS[:, here, seen],
            )
        )
    out_bGTH = jnp.concatenate(out, axis=2) if blocks > 1 else out[0]
    out_BKGTH = out_bGTH.reshape(B, K, N // K, T, H)
    return out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H).astype(q_BTNH.dtype)


@jax.custom_vjp
def _block(q_bGTH, k_bSH, v_bSH, bias_BTS) -> jax.Array:
    """Attention of T queries to S keys, each [b = batch * kv heads]; float32."""
    return _block_forward(q_bGTH, k_bSH, v_bSH, bias_BTS)[0]


def _block_forward(q_bGTH, k_bSH, v_bSH, bias_BTS):
    b, G, T, H = q_bGTH.shape
    B, _, S = bias_BTS.shape
    q_bQH = q_bGTH.reshape(b, G * T, H)
    scores_bQS = _product("bQH,bSH->bQS", q_bQH, k_bSH)
    scores_BKGTS = scores_bQS.reshape(B, b // B, G, T, S) + bias_BTS[:, None, None]
    weights_bQS = jax.nn.softmax(scores_BKGTS, axis=-1).reshape(b, G * T, S)
    weights_bQS = weights_bQS.astype(v_bSH.dtype)
    out_bQH = _product("bQS,bSH->bQH", weights_bQS, v_bSH)
    return out_bQH.reshape(b, G, T, H), (q_bQH, k_bSH, v_bSH, weights_bQS, out_bQH)


def _block_backward(saved, gradient_bGTH):
    """The gradients, in products that never contract the long operand's first dim: a
    CPU does those at half the rate. Equation 4 of arXiv:2205.14135 for the softmax."""
    q_bQH, k_bSH, v_bSH, weights_bQS, out_bQH = saved
    gradient_bQH = gradient_bGTH.reshape(out_bQH.shape)
    mean_bQ1 = jnp.sum(gradient_bQH * out_bQH, axis=-1, keepdims=True)
    gradient_bQH = gradient_bQH.astype(v_bSH.dtype)
    of_weights_bQS = _product("bQH,bSH->bQS", gradient_bQH, v_bSH)
    of_scores_bQS = (weights_bQS * (of_weights_bQS - mean_bQ1)).astype(q_bQH.dtype)
    of_q_bQH = _product("bQS,bSH->bQH", of_scores_bQS, k_bSH)
    of_k_bHS = _product("bHQ,bQS->bHS", q_bQH.swapaxes(1, 2), of_scores_bQS)
    of_v_bHS = _product("bHQ,bQS->bHS", gradient_bQH.swapaxes(1, 2), weights_bQS)
    return (
        of_q_bQH.reshape(gradient_bGTH.shape).astype(q_bQH.dtype),
        of_k_bHS.swapaxes(1, 2).astype(k_bSH.dtype),
        of_v_bHS.swapaxes(1, 2).astype(v_bSH.dtype),
        None,
    )


_block.defvjp(_block_forward, _block_backward)


def _product(dims: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(dims, a, b, preferred_element_type=jnp.float32)
