"""THE LOSS OF A REWARD MODEL: how unlikely its scores make what people preferred.

Before: heads with one output, read at STOP, and the ranks of the answers of a row.
After: train.step. Sums over rows, as in train.losses.
"""

import dataclasses

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.model import heads
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.posttrain import answers
from genlm.train.losses import Loss

HEAD = HeadConfig(("reward",), "last")


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """margin: of the difference between given scores, how much the better answer must
    be ahead (arXiv:2307.09288, equation 2). centre: of the square of all scores, which
    keeps their mean, that no ranking tells, near 0 (arXiv:2312.09244)."""

    margin: float = 0.0
    centre: float = 0.0

    def __post_init__(self) -> None:
        if min(self.margin, self.centre) < 0:
            raise UserError("reward.margin or centre is below 0")


def scores(params, batch, model: TransformerConfig, count: int, key=None) -> jax.Array:
    """scores_BK of params {"model", "head"}: one for each answer, read at its STOP."""
    outputs_BTC = heads.outputs(params, batch, model, HEAD, key)
    return answers.at_last(outputs_BTC[..., 0], batch["segments"], count)


def make_reward_loss(model: TransformerConfig, config: RewardConfig) -> Loss:
    """-log of the probability of the ranking, a row, in nats. A batch has ranks [B, K]
    (1 for the best, 0 for no answer) and values [B, K], the given scores, or 0."""

    def reward_loss(params, frozen, batch, key):
        del frozen
        ranks_BK, values_BK = batch["ranks"], batch["values"]
        scores_BK = scores(params, batch, model, ranks_BK.shape[1], key)
        margins_BKJ = config.margin * (values_BK[:, :, None] - values_BK[:, None, :])
        loss = jnp.sum(ranking_loss(scores_BK, ranks_BK, margins_BKJ))
        right_B, is_ordered_B = accuracy(scores_BK, ranks_BK)
        sums = {
            "loss": loss,
            "accuracy": jnp.sum(right_B),
            "weight": jnp.sum(is_ordered_B),
        }
        if config.centre:
            squares = jnp.where(ranks_BK > 0, jnp.square(scores_BK), 0.0)
            sums["centre_loss"] = config.centre * jnp.sum(squares)
        return loss + sums.get("centre_loss", 0.0), sums

    return reward_loss


def beaten(ranks_BK: jax.Array) -> jax.Array:
    """is_beaten_BKJ: whether answer k ranks before answer j."""
    is_there_BK = ranks_BK > 0
    is_before_BKJ = ranks_BK[:, :, None] < ranks_BK[:, None, :]
    return is_before_BKJ & is_there_BK[:, :, None]


def ranking_loss(
    scores_BK: jax.Array, ranks_BK: jax.Array, margins_BKJ: jax.Array | float = 0.0
) -> jax.Array:
    """-log p(ranking) [B], in nats, as Plackett and Luce have it: the best is chosen of
    all with probability proportional to exp(score), then the next of those that are
    left. Of two answers that is Bradley and Terry's -log sigmoid(better - worse). What
    ties is not held against each other: each is chosen of itself and what ranks after.

    R. Plackett, The Analysis of Permutations, 1975; R. Bradley and M. Terry, 1952.

    Args:
      margins_BKJ: how much answer k must be ahead of answer j.
    """
    gaps_BKJ = scores_BK[:, None, :] - scores_BK[:, :, None] + margins_BKJ
    lowest = jnp.finfo(gaps_BKJ.dtype).min
    gaps_BKJ = jnp.where(beaten(ranks_BK), gaps_BKJ, lowest)
    return jnp.sum(jnp.logaddexp(0.0, jax.nn.logsumexp(gaps_BKJ, axis=-1)), axis=-1)


def accuracy(scores_BK: jax.Array, ranks_BK: jax.Array) -> tuple[jax.Array, jax.Array]:
    """right_B: of the pairs of a row that are ordered, the share whose better answer
    has the higher score (half of one where both have the same); and whether there are
    any [B]. Both float32, 0 where there are none."""
    is_beaten_BKJ = beaten(ranks_BK)
    ahead_BKJ = scores_BK[:, :, None] - scores_BK[:, None, :]
    right_BKJ = jnp.where(is_beaten_BKJ, 0.5 + 0.5 * jnp.sign(ahead_BKJ), 0.0)
    count_B = jnp.sum(is_beaten_BKJ, axis=(1, 2))
    right_B = jnp.sum(right_BKJ, axis=(1, 2)) / jnp.maximum(count_B, 1)
    return right_B, (count_B > 0).astype(jnp.float32)
