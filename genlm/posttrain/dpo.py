"""DIRECT PREFERENCE: losses of the log-probabilities of two answers, with no reward
model between.

Before: rows with the better answer in segment 1 and the worse in segment 2, and what a
reference says of both. After: train.step. Sums over rows, as in train.losses.
"""

import dataclasses

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.posttrain import answers
from genlm.train import losses
from genlm.train.losses import Loss

KINDS = ("dpo", "ipo", "kto", "orpo", "simpo")
WITHOUT_REFERENCE = ("orpo", "simpo")
PER_TOKEN = ("ipo", "orpo", "simpo")  # these compare means over an answer's tokens


@dataclasses.dataclass(frozen=True)
class DpoConfig:
    """kind: one of KINDS.

    beta: how near to the reference the policy stays ('orpo': the share of the odds).
    smoothing: the share of pairs that are taken to be the wrong way round (cDPO).
    gamma: 'simpo': how far the better answer is to be ahead.
    good, bad: 'kto': the weights of either kind of answer.
    """

    kind: str
    beta: float
    smoothing: float
    gamma: float
    good: float
    bad: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"dpo.kind {self.kind!r} is none of {KINDS}")
        if not self.beta > 0 or min(self.gamma, self.good, self.bad) < 0:
            raise UserError("dpo.beta is not positive, or gamma, good or bad below 0")
        if not 0 <= self.smoothing < 0.5:
            raise UserError("dpo.smoothing is not in [0, 0.5)")
        if self.smoothing and self.kind != "dpo":
            raise UserError("dpo.smoothing is of dpo.kind=dpo alone")

    @property
    def answers(self) -> int:
        """How many stand in a row: 'kto' has a third and a fourth, of another row's
        prompt, whose likelihood says how far the policy has gone from the reference."""
        return 4 if self.kind == "kto" else 2


def make_dpo_loss(
    model: TransformerConfig, config: DpoConfig, vocab_chunk: int = 0
) -> Loss:
    """The loss of a row, in nats. A batch has reference [B, K]: what the reference
    gives each answer, a sum of log-probabilities. Its metrics: 'accuracy', how often
    the better answer has the larger reward; 'margin' between both, beta times what
    the policy has gained on the reference; and each of them."""

    def dpo_loss(params, frozen, batch, key):
        del frozen
        logps_BK, lengths_BK = sequence_logprobs(
            params, batch, model, config.answers, vocab_chunk, key
        )
        if config.kind == "kto":
            gained_BK = logps_BK - batch["reference"]
            loss_B, rewards_BK = kto(gained_BK, batch["ranks"], config)
        else:
            loss_B, rewards_BK = losses_of(
                logps_BK, batch["reference"], lengths_BK, config
            )
        is_there_B = (lengths_BK[:, 0] > 0).astype(jnp.float32)
        margin_B = rewards_BK[:, 0] - rewards_BK[:, 1]
        loss = jnp.sum(loss_B * is_there_B)
        return loss, {
            "loss": loss,
            "accuracy": jnp.sum((margin_B > 0) * is_there_B),
            "margin": jnp.sum(margin_B * is_there_B),
            "better": jnp.sum(rewards_BK[:, 0] * is_there_B),
            "worse": jnp.sum(rewards_BK[:, 1] * is_there_B),
            "weight": jnp.sum(is_there_B),
        }

    return dpo_loss


def sequence_logprobs(
    params,
    batch,
    model: TransformerConfig,
    count: int,
    vocab_chunk: int = 0,
    key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """log p [B, K] of each answer of a row, and how many tokens it has [B, K]."""
    hidden_BTD, _, _ = transformer.apply(params, batch, model, key=key)
    logprobs_BT = losses.token_logprobs(
        params, hidden_BTD, batch["targets"], model, vocab_chunk
    )
    weights_BT, segments_BT = batch["weights"], batch["segments"]
    return (
        answers.sums(logprobs_BT * weights_BT, segments_BT, count),
        answers.sums(weights_BT, segments_BT, count),
    )


def losses_of(
    logps_BK: jax.Array,
    reference_BK: jax.Array,
    lengths_BK: jax.Array,
    config: DpoConfig,
) -> tuple[jax.Array, jax.Array]:
    """The loss [B] and the rewards [B, K] of answers with such log-probabilities.

    dpo: arXiv:2305.18290, equation 7; with smoothing cDPO (E. Mitchell, A Note on DPO
    with Noisy Preferences, 2023). ipo: arXiv:2310.12036, equation 17, of means over
    tokens. orpo: arXiv:2403.07691, equation 6. simpo: arXiv:2405.14734, equation 6.
    """
    if config.kind in PER_TOKEN:
        lengths_BK = jnp.maximum(lengths_BK, 1.0)
        logps_BK, reference_BK = logps_BK / lengths_BK, reference_BK / lengths_BK
    if config.kind in WITHOUT_REFERENCE:
        reference_BK = jnp.zeros_like(logps_BK)
    gained_BK = logps_BK - reference_BK
    rewards_BK = config.beta * gained_BK
    ahead_B = gained_BK[:, 0] - gained_BK[:, 1]
    log_sigmoid = jax.nn.log_sigmoid
    if config.kind == "dpo":
        right_B = log_sigmoid(config.beta * ahead_B)
        wrong_B = log_sigmoid(-config.beta * ahead_B)
        loss_B = -(1 - config.smoothing) * right_B - config.smoothing * wrong_B
    elif config.kind == "ipo":
        loss_B = jnp.square(ahead_B - 0.5 / config.beta)
    elif config.kind == "simpo":
        loss_B = -log_sigmoid(config.beta * ahead_B - config.gamma)
    else:
        better_B, worse_B = logps_BK[:, 0], logps_BK[:, 1]
        odds_B = better_B - worse_B - (_log1m_exp(better_B) - _log1m_exp(worse_B))
        loss_B = -better_B - config.beta * log_sigmoid(odds_B)
    return loss_B, rewards_BK


def _log1m_exp(logp: jax.Array) -> jax.Array:
    """log(1 - exp(logp)) of logp < 0."""
    return jnp.log(-jnp.expm1(jnp.minimum(logp, -1e-7)))


def kto(
    gained_BK: jax.Array, ranks_BK: jax.Array, config: DpoConfig
) -> tuple[jax.Array, jax.Array]:
    """The loss [B] and the rewards [B, 2] of good answers (rank 1) and bad ones (2),
    where answers to other prompts (0) say how far the policy has gone from the
    reference; a row is the mean of what it has (arXiv:2402.01306, equation 8).

    Args:
      gained_BK: log p under the policy less that under the reference; 0 where there is
        no answer.
    """
    is_good_BK, is_bad_BK = ranks_BK == 1, ranks_BK == 2
    is_other_BK = (ranks_BK == 0) & (gained_BK != 0)
    count = jnp.maximum(jnp.sum(is_other_BK), 1)
    mean = jnp.sum(jnp.where(is_other_BK, gained_BK, 0.0)) / count
    far = jax.lax.stop_gradient(jnp.maximum(mean, 0.0))
    good_BK = 1 - jax.nn.sigmoid(config.beta * (gained_BK - far))
    bad_BK = 1 - jax.nn.sigmoid(config.beta * (far - gained_BK))
    loss_BK = config.good * good_BK * is_good_BK + config.bad * bad_BK * is_bad_BK
    num_B = jnp.maximum(jnp.sum(is_good_BK | is_bad_BK, axis=1), 1)
    rewards = [
        config.beta * jnp.sum(jnp.where(mask, gained_BK, 0.0), axis=1)
        for mask in (is_good_BK, is_bad_BK)
    ]
    return jnp.sum(loss_BK, axis=1) / num_B, jnp.stack(rewards, axis=1)
