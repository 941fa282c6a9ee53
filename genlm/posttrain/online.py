"""ONLINE DPO: a policy learns from pairs of its own answers, ranked by their rewards.

Before: rollouts and rewards. After: train.step. Where a judge prefers answer i to j
with the probability σ(r_i - r_j) of Bradley and Terry, DPO's loss (arXiv:2305.18290,
equation 7) of what the judge would say is taken in expectation, over all pairs of a
group, and nothing is drawn (arXiv:2402.04792 draws). It ends at π_ref · exp(r / β).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from genlm.errors import UserError
from genlm.inference.sampling import SamplingConfig
from genlm.model.config import TransformerConfig
from genlm.posttrain import groups, policy
from genlm.train.losses import Loss


@dataclasses.dataclass(frozen=True)
class OnlineConfig:
    """beta: how near to the reference the policy stays."""

    beta: float

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise UserError("online.beta is not positive")


def make_online_loss(
    model: TransformerConfig, sampling: SamplingConfig, config: OnlineConfig
) -> Loss:
    """The loss of groups of answers, in nats a group. A batch is that of policy, with
    the answers' rewards [B] too. 'accuracy': of the pairs with unlike rewards, how many
    the policy's own gains rank alike, a group; 'margin' between the two of such a pair.
    """

    def online_loss(params, frozen, batch, key):
        del frozen
        P = len(batch[groups.PROMPTS]["tokens"])
        batch = groups.flat(batch)
        hidden_BTD = groups.hidden(params, batch, model, key)
        logprobs_BTV = policy.distribution(params, hidden_BTD, model, sampling)
        logprobs_BT = policy.picked(logprobs_BTV, batch["targets"])
        gained_BT = (logprobs_BT - batch["reference"]) * batch["weights"]
        gained_PK = jnp.sum(gained_BT, axis=1).reshape(P, -1)
        rewards_PK = batch["rewards"].reshape(P, -1)
        loss_P, right_P, margin_P = pairs(gained_PK, rewards_PK, config.beta)
        loss = jnp.sum(loss_P)
        return loss, {
            "loss": loss,
            "accuracy": jnp.sum(right_P),
            "margin": jnp.sum(margin_P),
            "weight": jnp.float32(P),
        }

    return online_loss


def pairs(
    gained_PK: jax.Array, rewards_PK: jax.Array, beta: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each group the mean loss over its pairs; how many pairs of unlike rewards are
    ranked alike; and their mean margin, beta times the better's gain less the worse's.

    Args:
      gained_PK: log p of each answer under the policy less that under the reference.
    """
    i, j = np.triu_indices(gained_PK.shape[1], 1)
    ahead_Pp = beta * (gained_PK[:, i] - gained_PK[:, j])
    better_Pp = rewards_PK[:, i] - rewards_PK[:, j]
    wins_Pp = jax.nn.sigmoid(better_Pp)
    loss_Pp = -wins_Pp * jax.nn.log_sigmoid(ahead_Pp)
    loss_Pp -= (1.0 - wins_Pp) * jax.nn.log_sigmoid(-ahead_Pp)
    margin_Pp = ahead_Pp * jnp.sign(better_Pp)
    count_P = jnp.maximum(jnp.sum(better_Pp != 0, axis=1), 1)
    right_P = jnp.sum(margin_Pp > 0, axis=1) / count_P
    return jnp.mean(loss_Pp, axis=1), right_P, jnp.sum(margin_Pp, axis=1) / count_P
