"""LOOKS: single numbers about the inside of a layer, over a batch without its PAD."""

import jax
import jax.numpy as jnp

from genlm.model import attention, layers

_OFF = 1e-6  # of the largest: what is smaller is off


def root_mean_square(x_BTD: jax.Array, real_BT: jax.Array) -> jax.Array:
    """√(mean of x²)."""
    squares_BT = jnp.mean(jnp.square(x_BTD.astype(jnp.float32)), axis=-1)
    return jnp.sqrt(jnp.sum(squares_BT * real_BT) / jnp.sum(real_BT))


def attention_entropy(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    mask_BTS: jax.Array,
    real_BT: jax.Array,
    *,
    scale: float,
    cap: float,
) -> jax.Array:
    """The entropy of a query's attention in nats, the mean over queries and heads.
    `scale` and `cap` as of `attention.attend`."""
    scores = layers.soft_cap(attention.scores(q_BTNH, k_BSKH) * scale, cap)
    scores = jnp.where(mask_BTS[:, None, None], scores, -jnp.inf)
    log = jax.nn.log_softmax(jnp.where(real_BT[:, None, None, :, None], scores, 0.0))
    log = jnp.maximum(log, jnp.finfo(jnp.float32).min)  # 0 log 0 is 0
    entropy_BKGT = -jnp.sum(jnp.exp(log) * log, axis=-1)
    return (
        jnp.sum(entropy_BKGT * real_BT[:, None, None])
        / jnp.sum(real_BT)
        / q_BTNH.shape[2]
    )


def dead_share(out_BTF: jax.Array, real_BT: jax.Array) -> jax.Array:
    """The share of units that no token of the batch turns on."""
    size_BTF = jnp.abs(out_BTF.astype(jnp.float32)) * real_BT[..., None]
    largest_F = jnp.max(size_BTF, axis=(0, 1))
    return jnp.mean(largest_F <= _OFF * jnp.max(largest_F))
