"""ADVANTAGES: rewards -> how much better than expected each answer, or token, was.

Before: rewards of a round, in groups of answers to one prompt. After: policy.
Everything is float32, and no gradient goes through any of it.
"""

import jax
import jax.numpy as jnp

BASELINES = ("leave_one_out", "group_mean", "batch_mean", "none")
SCALES = ("none", "group", "batch")
_SMALL = 1e-6  # what is divided by is never less; of equal rewards nothing is learnt


def of_groups(rewards_PK: jax.Array, baseline: str, scale: str) -> jax.Array:
    """advantages_PK of P groups of K answers.

    Args:
      baseline: what is taken off. 'leave_one_out': the mean of the others of the group
        (RLOO, arXiv:2402.14740); 'group_mean': that of the whole group (GRPO,
        arXiv:2402.03300), which is (K - 1) / K of it; 'batch_mean': of all
        (REINFORCE++, arXiv:2501.03262); 'none'.
      scale: what is divided by. 'group': the group's standard deviation (GRPO);
        'batch': that of all rewards, whatever was taken off (REINFORCE++; beside
        'group_mean' arXiv:2508.08221); 'none' (Dr. GRPO, arXiv:2503.20783).
    """
    K = rewards_PK.shape[1]
    deviation_of_all = jnp.std(rewards_PK - rewards_PK[:1, :1])
    if baseline != "none":  # so that equal rewards give 0, and not what rounding leaves
        is_whole = baseline == "batch_mean"
        rewards_PK = rewards_PK - (
            rewards_PK[:1, :1] if is_whole else rewards_PK[:, :1]
        )
    if baseline == "leave_one_out":
        others_PK = jnp.sum(rewards_PK, axis=1, keepdims=True) - rewards_PK
        advantages_PK = rewards_PK - others_PK / (K - 1)
    elif baseline == "group_mean":
        advantages_PK = rewards_PK - jnp.mean(rewards_PK, axis=1, keepdims=True)
    elif baseline == "batch_mean":
        advantages_PK = rewards_PK - jnp.mean(rewards_PK)
    else:
        advantages_PK = rewards_PK
    if scale == "group":
        return advantages_PK / (jnp.std(rewards_PK, axis=1, keepdims=True) + _SMALL)
    if scale == "batch":
        return advantages_PK / (deviation_of_all + _SMALL)
    return advantages_PK


def generalised(
    rewards_BT: jax.Array,
    values_BT: jax.Array,
    weights_BT: jax.Array,
    discount: float,
    decay: float,
) -> tuple[jax.Array, jax.Array]:
    """advantages_BT and returns_BT, what the values should have been: generalised
    advantage estimation (arXiv:1506.02438, equation 16). An answer's tokens stand side
    by side where weights_BT is 1; after the last of them nothing comes, and its value
    counts as 0. Elsewhere both are 0."""
    is_next_BT = jnp.pad(weights_BT[:, 1:], ((0, 0), (0, 1)))
    next_BT = jnp.pad(values_BT[:, 1:], ((0, 0), (0, 1))) * is_next_BT
    deltas_BT = (rewards_BT + discount * next_BT - values_BT) * weights_BT

    def before(later_B, column):
        delta_B, weight_B = column
        now_B = (delta_B + discount * decay * later_B) * weight_B
        return now_B, now_B

    columns = deltas_BT.T, weights_BT.T
    _, advantages_TB = jax.lax.scan(
        before, jnp.zeros(len(rewards_BT)), columns, reverse=True
    )
    advantages_BT = advantages_TB.T
    return advantages_BT, (advantages_BT + values_BT) * weights_BT


def whitened(values_BT: jax.Array, weights_BT: jax.Array) -> jax.Array:
    """values_BT with mean 0 and variance 1 over all that have a weight; 0 elsewhere."""
    total = jnp.maximum(jnp.sum(weights_BT), 1.0)
    mean = jnp.sum(values_BT * weights_BT) / total
    apart_BT = (values_BT - mean) * weights_BT
    variance = jnp.sum(jnp.square(apart_BT)) / total
    return apart_BT * jax.lax.rsqrt(variance + _SMALL)
