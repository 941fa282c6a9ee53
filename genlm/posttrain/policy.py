"""THE LOSS OF A POLICY: how its answers become likelier, the better they were.

Before: rollout, which gives the log-probabilities that the answers were drawn with, and
advantages. After: train.step. Sums, as in train.losses; what they are divided by is
told by `average`. Everything here is float32.

A batch is what genlm.posttrain.groups says, and T is the most tokens of an answer. Its
arrays, each [B, T] at the targets: weights, 1 at the answer's tokens, its STOP counted;
logprobs, what the answers were drawn with; reference, those of the model that the
policy shall stay near; and advantages.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.inference import sampling as samplings
from genlm.inference.sampling import SamplingConfig
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.posttrain import advantages, groups
from genlm.train.losses import Loss
from genlm.train.step import TrainStep

ESTIMATORS = ("k1", "k2", "k3")
RATIOS = ("token", "sequence")
AVERAGES = ("token", "sequence", "sum")
PLACES = ("none", "reward", "loss")


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """How a policy is updated: the choices in which papers differ.

    ratio: of new and old probabilities, of each 'token' or of the whole 'sequence', its
      geometric mean (GSPO, arXiv:2507.18071, in the form of its equation 14).
    clip_low, clip_high: a ratio counts between 1 - clip_low and 1 + clip_high alone
      (PPO, arXiv:1707.06347; higher than low: DAPO, arXiv:2503.14476).
    average: over all 'token's (DAPO); over the mean of each 'sequence' (GRPO,
      arXiv:2402.03300); or over the 'sum' of each, the gradient of what is expected
      (Dr. GRPO, arXiv:2503.20783, which divides by a constant besides).
    kl: the divergence from the reference is taken off the 'reward', is in the 'loss',
      or is left out ('none'); estimator: of it (`divergence`); beta: its share.
    target: of the divergence, as `kl` in the metrics: beta begins as it is given, and
      `steered` moves it (kl=reward); 0: it stays.
    entropy: the share of the entropy of each next token, which is learnt too.
    baseline, scale: see advantages.of_groups.
    """

    ratio: str
    clip_low: float
    clip_high: float
    average: str
    kl: str
    estimator: str
    beta: float
    target: float
    entropy: float
    baseline: str
    scale: str

    def __post_init__(self) -> None:
        for name, known in (
            ("ratio", RATIOS),
            ("average", AVERAGES),
            ("kl", PLACES),
            ("estimator", ESTIMATORS),
            ("baseline", advantages.BASELINES),
            ("scale", advantages.SCALES),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"policy.{name} {getattr(self, name)!r}: {known}")
        if not 0 <= self.clip_low <= 1 or self.clip_high < 0:
            raise UserError("policy.clip_low is not in [0, 1], or clip_high is below 0")
        if min(self.beta, self.target, self.entropy) < 0:
            raise UserError("policy.beta, target or entropy is below 0")
        if self.target and self.kl != "reward":
            raise UserError("policy.target moves a beta in the reward: kl=reward")
        if bool(self.beta) != (self.kl != "none"):
            raise UserError(
                f"policy.kl is {self.kl!r} and policy.beta {self.beta}: give a beta"
                " above 0 where a divergence counts, and 0 with kl=none"
            )
        if self.kl == "reward" and self.estimator != "k1":
            raise UserError(
                f"policy.estimator {self.estimator} in the reward has another optimum,"
                " or none: take k1 there, or kl=loss"
            )
        if self.kl == "loss" and self.estimator == "k1":
            raise UserError(
                "policy.estimator k1 has no gradient in the loss (its mean is 0): take"
                " k2 there, or kl=reward"
            )


def divergence(logprobs: jax.Array, reference: jax.Array, estimator: str) -> jax.Array:
    """KL(policy | reference) of tokens that the policy drew, estimated one by one, with
    r = reference's probability / policy's (J. Schulman, Approximating KL Divergence,
    2020): k1 = -log r; k2 = (log r)^2 / 2; k3 = r - 1 - log r.

    As a loss, k2 has the gradient of the divergence itself, and k3 that of the other
    direction, KL(reference | policy); k1 has none."""
    log_r = reference - logprobs
    if estimator == "k1":
        return -log_r
    if estimator == "k2":
        return 0.5 * jnp.square(log_r)
    return jnp.expm1(log_r) - log_r


def steered(train_step: TrainStep, config: PolicyConfig) -> TrainStep:
    """`train_step`, and after it a tenth of what the divergence is off its target, at
    most a fiftieth, is put on state.extra['beta'] or taken off (arXiv:1909.08593,
    section 2.2)."""

    def steered_step(state, batch, frozen=None):
        state, metrics = train_step(state, batch, frozen)
        off = jnp.clip(metrics["kl"] / config.target - 1.0, -0.2, 0.2)
        beta = state.extra["beta"]
        metrics = {**metrics, "beta": beta}
        extra = {**state.extra, "beta": beta * (1.0 + 0.1 * off)}
        return dataclasses.replace(state, extra=extra), metrics

    return steered_step


def rewarded(
    config: PolicyConfig, batch: Any, rewards_B: jax.Array, beta: Any
) -> jax.Array:
    """rewards_BT of tokens: an answer's own at its last, its STOP; at each of them what
    the divergence takes off, where that is in the reward."""
    weights_BT = batch["weights"]
    after_BT = jnp.pad(weights_BT[:, 1:], ((0, 0), (0, 1)))
    rewards_BT = rewards_B[:, None] * weights_BT * (1 - after_BT)
    if config.kl == "reward":
        gone_BT = divergence(batch["logprobs"], batch["reference"], config.estimator)
        rewards_BT = rewards_BT - beta * gone_BT * weights_BT
    return rewards_BT


def of_groups(
    config: PolicyConfig, rewards_BT: jax.Array, weights_BT: jax.Array, answers: int
) -> jax.Array:
    """advantages_BT of groups of so many answers: one for the whole of each."""
    rewards_PK = jnp.sum(rewards_BT, axis=1).reshape(-1, answers)
    found_PK = advantages.of_groups(rewards_PK, config.baseline, config.scale)
    return found_PK.reshape(-1, 1) * weights_BT


def make_policy_loss(
    model: TransformerConfig, sampling: SamplingConfig, config: PolicyConfig
) -> Loss:
    """The policy's loss of a batch of answers, folded as groups.folded does, that were
    drawn as `sampling` says."""

    def policy_loss(params, frozen, batch, key):
        del frozen
        batch = groups.flat(batch)
        hidden_BTD = groups.hidden(params, batch, model, key)
        return loss_of_hidden(params, hidden_BTD, batch, model, sampling, config)

    return policy_loss


def loss_of_hidden(
    params: Any, hidden_BTD, batch, model, sampling, config: PolicyConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The policy's loss, of hidden states; (sum, metrics of sums)."""
    logprobs_BTV = distribution(params, hidden_BTD, model, sampling)
    logprobs_BT = picked(logprobs_BTV, batch["targets"])
    terms, clipped_BT = clipped_terms(logprobs_BT, batch, config)
    share_BT, weight = shares(batch["weights"], config.average)
    loss = policy = jnp.sum(terms * share_BT)
    gone_BT = divergence(logprobs_BT, batch["reference"], "k3")
    sums = {
        "clipped": jnp.sum(clipped_BT * share_BT),
        "kl": jnp.sum(gone_BT * share_BT),
    }
    if config.kl == "loss":
        gone_BT = divergence(logprobs_BT, batch["reference"], config.estimator)
        loss += config.beta * jnp.sum(gone_BT * share_BT)
    probs_BTV = jnp.exp(logprobs_BTV)
    seen_BTV = jnp.where(jnp.isfinite(logprobs_BTV), logprobs_BTV, 0.0)
    sums["entropy"] = -jnp.sum(jnp.sum(probs_BTV * seen_BTV, axis=-1) * share_BT)
    if config.entropy:
        loss -= config.entropy * sums["entropy"]
    return loss, {"loss": loss, "policy_loss": policy, "weight": weight, **sums}


def clipped_terms(
    logprobs_BT: jax.Array, batch: Any, config: PolicyConfig
) -> tuple[jax.Array, jax.Array]:
    """The clipped surrogate of each token, to be made small; where it is clipped."""
    log_ratio_BT = (logprobs_BT - batch["logprobs"]) * batch["weights"]
    if config.ratio == "sequence":
        length_B1 = jnp.maximum(jnp.sum(batch["weights"], 1, keepdims=True), 1.0)
        mean_B1 = jnp.sum(log_ratio_BT, axis=1, keepdims=True) / length_B1
        # each token has the sequence's ratio, and a gradient of its own
        own_BT = logprobs_BT - jax.lax.stop_gradient(logprobs_BT)
        log_ratio_BT = jax.lax.stop_gradient(mean_B1) + own_BT
    ratio_BT = jnp.exp(log_ratio_BT)
    near_BT = jnp.clip(ratio_BT, 1.0 - config.clip_low, 1.0 + config.clip_high)
    free_BT = ratio_BT * batch["advantages"]
    held_BT = near_BT * batch["advantages"]
    return -jnp.minimum(free_BT, held_BT), (held_BT < free_BT).astype(jnp.float32)


def shares(weights_BT: jax.Array, average: str) -> tuple[jax.Array, jax.Array]:
    """What each token counts, and what the sum is divided by in the end."""
    if average == "token":
        return weights_BT, jnp.sum(weights_BT)
    length_B1 = jnp.sum(weights_BT, axis=1, keepdims=True)
    count = jnp.sum(length_B1 > 0).astype(jnp.float32)
    if average == "sequence":
        return weights_BT / jnp.maximum(length_B1, 1.0), count
    return weights_BT, count


def distribution(
    params: Any, hidden_BTD: jax.Array, model: TransformerConfig, sampling
) -> jax.Array:
    """logprobs_BTV of the distribution that the sampler draws from."""
    logits_BTV = transformer.unembed(params, hidden_BTD, model)
    return samplings.logprobs(logits_BTV, sampling)


def picked(logprobs_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """logprobs_BT of the targets. A target that the sampler could not have drawn, which
    stands where nothing was, has 0."""
    found_BT1 = jnp.take_along_axis(logprobs_BTV, targets_BT[..., None], axis=-1)
    return jnp.where(jnp.isfinite(found_BT1), found_BT1, 0.0)[..., 0]


def make_scorer(model: TransformerConfig, sampling: SamplingConfig) -> Any:
    """score(params, batch): logprobs_BT of the targets, 0 where they have no weight."""

    def score(params, batch):
        hidden_BTD = groups.hidden(params, batch, model)
        logprobs_BTV = distribution(params, hidden_BTD, model, sampling)
        return picked(logprobs_BTV, batch["targets"]) * batch["weights"]

    return jax.jit(score)
