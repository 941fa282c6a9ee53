"""PPO: the loss of a policy and its critic, which share one model.

Before: rollouts with rewards for each token. After: train.step. The critic is a head
with one output: what it says at a token is the value of what is read so far, so of the
state in which the next token, the target, was drawn.
"""

import dataclasses
from typing import Any, Callable

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.inference.sampling import SamplingConfig
from genlm.model import heads
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.posttrain import advantages, groups, policy
from genlm.posttrain.policy import PolicyConfig
from genlm.train.losses import Loss

HEAD = HeadConfig(("value",), "last")


@dataclasses.dataclass(frozen=True)
class CriticConfig:
    """discount: of rewards a token later; decay: GAE's lambda; clip: a value counts so
    far from what it was alone (0: as it is); share: of the value's loss; whiten:
    advantages have mean 0 and variance 1 in a round."""

    discount: float
    decay: float
    clip: float
    share: float
    whiten: bool

    def __post_init__(self) -> None:
        if not 0 < self.discount <= 1 or not 0 <= self.decay <= 1:
            raise UserError("critic.discount is not in (0, 1], or decay not in [0, 1]")
        if self.clip < 0 or self.share < 0:
            raise UserError("critic.clip or share is below 0")


def values(params, hidden_BTD: jax.Array) -> jax.Array:
    """values_BT, float32."""
    return heads.apply(params["head"], hidden_BTD.astype(jnp.float32))[..., 0]


def make_ppo_loss(
    model: TransformerConfig,
    sampling: SamplingConfig,
    config: PolicyConfig,
    critic: CriticConfig,
) -> Loss:
    """The loss of params {"model", "head"} (arXiv:1707.06347; clipping of values as in
    its authors' code). A batch has, besides those of policy, values and returns [B, T].
    """

    def ppo_loss(params, frozen, batch, key):
        del frozen
        batch = groups.flat(batch)
        hidden_BTD = groups.hidden(params["model"], batch, model, key)
        loss, sums = policy.loss_of_hidden(
            params["model"], hidden_BTD, batch, model, sampling, config
        )
        share_BT, _ = policy.shares(batch["weights"], config.average)
        errors_BT = value_errors(values(params, hidden_BTD), batch, critic.clip)
        sums["value_loss"] = jnp.sum(errors_BT * share_BT)
        loss += critic.share * sums["value_loss"]
        return loss, sums | {"loss": loss}

    return ppo_loss


def make_reader(model: TransformerConfig) -> Callable[[Any, Any], jax.Array]:
    """read(params, batch): values_BT, 0 where nothing is drawn."""

    @jax.jit
    def read(params, batch):
        hidden_BTD = groups.hidden(params["model"], batch, model)
        return values(params, hidden_BTD) * batch["weights"]

    return read


def targets(
    config: CriticConfig,
    rewards_BT: jax.Array,
    values_BT: jax.Array,
    weights_BT: jax.Array,
) -> dict[str, jax.Array]:
    """advantages, returns and values [B, T], which a batch needs besides."""
    found_BT, returns_BT = advantages.generalised(
        rewards_BT, values_BT, weights_BT, config.discount, config.decay
    )
    if config.whiten:
        found_BT = advantages.whitened(found_BT, weights_BT)
    return {"advantages": found_BT, "returns": returns_BT, "values": values_BT}


def value_errors(values_BT: jax.Array, batch, clip: float) -> jax.Array:
    """Half the square of what each value is off, the larger of two where it is held
    near what it was."""
    off_BT = jnp.square(values_BT - batch["returns"])
    if clip:
        old_BT = batch["values"]
        near_BT = old_BT + jnp.clip(values_BT - old_BT, -clip, clip)
        off_BT = jnp.maximum(off_BT, jnp.square(near_BT - batch["returns"]))
    return 0.5 * off_BT
