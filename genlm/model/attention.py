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


def _block(q_bGTH, k_bSH, v_bSH, bias_BTS) -> jax.Array:
    """Attention of T queries to S keys, each [b = batch * kv heads]; float32."""
    b, G, T, H = q_bGTH.shape
    B, _, S = bias_BTS.shape
    scores_bQS = jnp.einsum(
        "bQH,bSH->bQS",
        q_bGTH.reshape(b, G * T, H),
        k_bSH,
        preferred_element_type=jnp.float32,
    )
    scores_BKGTS = scores_bQS.reshape(B, b // B, G, T, S) + bias_BTS[:, None, None]
    weights_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_bSH.dtype)
    out_bQH = jnp.einsum(
        "bQS,bSH->bQH",
        weights_BKGTS.reshape(b, G * T, S),
        v_bSH,
        preferred_element_type=jnp.float32,
    )
    return out_bQH.reshape(b, G, T, H)
