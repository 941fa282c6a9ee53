"""DISTILLATION: a student learns from what a teacher holds likely at every token.

Before: two models that read the same tokens. After: the stage distill. The teacher's
parameters are what a train step calls frozen.
"""

import dataclasses

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.train.losses import Loss

DIRECTIONS = ("forward", "reverse")


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """direction: 'forward' is KL(teacher ‖ student) (arXiv:1503.02531), which spreads
    over all that the teacher holds likely; 'reverse' KL(student ‖ teacher)
    (arXiv:2306.08543), which keeps to what it holds likeliest. share: of the loss, the
    rest is that of the next token; temperature: of both, its square times the KL."""

    direction: str
    share: float
    temperature: float

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise UserError(f"distill.direction is none of {DIRECTIONS}")
        if not 0 < self.share <= 1 or not self.temperature > 0:
            raise UserError(
                "not so: distill.share is in (0, 1], and temperature positive"
            )


def make_distill_loss(
    student: TransformerConfig, teacher: TransformerConfig, config: DistillConfig
) -> Loss:
    """A loss whose `frozen` is the teacher's parameters; its metrics hold 'kl', nats a
    trained token at the temperature, and 'nats', of the next token."""

    def distill_loss(params, frozen, batch, key):
        hidden_BTD, _, _ = transformer.apply(params, batch, student, key=key)
        logits_BTV = transformer.unembed(params, hidden_BTD, student)
        seen_BTD, _, _ = transformer.apply(frozen, batch, teacher)
        told_BTV = jax.lax.stop_gradient(transformer.unembed(frozen, seen_BTD, teacher))
        ours_BTV = jax.nn.log_softmax(logits_BTV / config.temperature)
        theirs_BTV = jax.nn.log_softmax(told_BTV / config.temperature)
        if config.direction == "reverse":
            ours_BTV, theirs_BTV = theirs_BTV, ours_BTV
        kl_BT = jnp.sum(jnp.exp(theirs_BTV) * (theirs_BTV - ours_BTV), axis=-1)
        logprobs_BTV = jax.nn.log_softmax(logits_BTV)
        target_BT1 = batch["targets"][..., None]
        nats_BT = -jnp.take_along_axis(logprobs_BTV, target_BT1, axis=-1)[..., 0]
        kl, nats = (jnp.sum(x_BT * batch["weights"]) for x_BT in (kl_BT, nats_BT))
        loss = config.share * config.temperature**2 * kl + (1 - config.share) * nats
        weight = jnp.sum(batch["weights"])
        return loss, {"loss": loss, "kl": kl, "nats": nats, "weight": weight}

    return distill_loss
