"""ATTENTION: softmax(q kᵀ / √H) v within a document, looking back only.

https://arxiv.org/abs/1706.03762; grouped queries share keys (arXiv:2305.13245).
Softmax is in float32. No query looks further back than the model's max_length, so a
text longer than the rows it was trained on is read through a sliding window.
"""

import functools

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
    out_bGTH = _attend(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks)
    out_BKGTH = out_bGTH.reshape(B, K, N // K, T, H)
    return out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H).astype(q_BTNH.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks: int) -> jax.Array:
    """Attention of T queries to S keys, each [b = batch * kv heads]; float32."""
    return _forward(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks)[0]


def _forward(q_bGTH, k_bSH, v_bSH, bias_BTS, blocks):
    b, G, T, H = q_bGTH.shape
    B = len(bias_BTS)
    weights, out = [], []
    for here, seen in _parts(T, k_bSH.shape[1], blocks):
        q_bQH = q_bGTH[:, :, here].reshape(b, -1, H)
        scores_bQS = _product("bQH,bSH->bQS", q_bQH, k_bSH[:, seen])
        bias_BTS_ = bias_BTS[:, None, None, here, seen]
        scores_BKGTS = scores_bQS.reshape(B, b // B, G, *bias_BTS_.shape[3:])
        weights_BKGTS = jax.nn.softmax(scores_BKGTS + bias_BTS_, axis=-1)
        weights_bQS = weights_BKGTS.reshape(scores_bQS.shape).astype(v_bSH.dtype)
        out_bQH = _product("bQS,bSH->bQH", weights_bQS, v_bSH[:, seen])
        weights.append(weights_bQS)
        out.append(out_bQH.reshape(b, G, -1, H))
    out_bGTH = jnp.concatenate(out, axis=2)
    return out_bGTH, (q_bGTH, k_bSH, v_bSH, weights, out_bGTH)


def _backward(blocks, saved, gradient_bGTH):
    """The gradients, in products that never contract the long operand's first dim: a
    CPU does those at half the rate. Equation 4 of arXiv:2205.14135 for the softmax."""
    q_bGTH, k_bSH, v_bSH, weights, out_bGTH = saved
    b, G, T, H = q_bGTH.shape
    mean_bGT1 = jnp.sum(gradient_bGTH * out_bGTH, axis=-1, keepdims=True)
    gradient_bGTH = gradient_bGTH.astype(v_bSH.dtype)
    of_q = []
    of_k_bHS = of_v_bHS = jnp.zeros((b, H, k_bSH.shape[1]))
    for (here, seen), weights_bQS in zip(_parts(T, k_bSH.shape[1], blocks), weights):
        q_bQH, gradient_bQH, mean_bQ1 = (
            x[:, :, here].reshape(b, -1, x.shape[-1])
            for x in (q_bGTH, gradient_bGTH, mean_bGT1)
        )
        of_weights_bQS = _product("bQH,bSH->bQS", gradient_bQH, v_bSH[:, seen])
        of_scores_bQS = weights_bQS * (of_weights_bQS - mean_bQ1)
        of_scores_bQS = of_scores_bQS.astype(q_bQH.dtype)
        of_q_bQH = _product("bQS,bSH->bQH", of_scores_bQS, k_bSH[:, seen])
        of_q.append(of_q_bQH.reshape(b, G, -1, H))
        of_k_bHS = of_k_bHS.at[:, :, seen].add(
            _product("bHQ,bQS->bHS", q_bQH.swapaxes(1, 2), of_scores_bQS)
        )
        of_v_bHS = of_v_bHS.at[:, :, seen].add(
            _product("bHQ,bQS->bHS", gradient_bQH.swapaxes(1, 2), weights_bQS)
        )
    return (
        jnp.concatenate(of_q, axis=2).astype(q_bGTH.dtype),
        of_k_bHS.swapaxes(1, 2).astype(k_bSH.dtype),
        of_v_bHS.swapaxes(1, 2).astype(v_bSH.dtype),
        None,
    )


_attend.defvjp(_forward, _backward)


def _parts(T: int, S: int, blocks: int) -> list[tuple[slice, slice]]:
    """(queries, the keys they may look at) of each block; one block sees all."""
    if blocks == 1:
        return [(slice(0, T), slice(0, S))]
    ends = [i * T // blocks for i in range(blocks + 1)]
    return [(slice(a, b), slice(0, b)) for a, b in zip(ends, ends[1:])]


def _product(dims: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(dims, a, b, preferred_element_type=jnp.float32)
