"""SAMPLING: logits -> the next id and its log-probability.

The log-probability is that of the distribution actually sampled, after temperature
and truncation: what a policy gradient must use.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from genlm.errors import UserError

_COLDEST = 1e-6  # logits divided by less may overflow in float32


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How the next token is drawn. temperature 0 is the likeliest; top_k 0 and top_p 1
    leave all tokens in."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature} is not 0 or more")
        if 0 < self.temperature < _COLDEST:
            raise UserError(
                f"temperature {self.temperature} is below {_COLDEST}; 0 takes the"
                " likeliest token"
            )
        if self.top_k < 0:
            raise UserError(f"top_k {self.top_k} is below 0")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not in (0, 1]")


def logprobs(logits_BV: jax.Array, config: SamplingConfig) -> jax.Array:
    """Log-probabilities [..., V] of the distribution that `config` samples from.

    top_p keeps the smallest set of likeliest tokens that holds at least that share
    (arXiv:1904.09751); tokens left out get -inf. At temperature 0 all mass is on the
    likeliest.
    """
    if config.temperature == 0:
        best = jnp.argmax(logits_BV, axis=-1)
        hot = jax.nn.one_hot(best, logits_BV.shape[-1], dtype=bool)
        return jnp.where(hot, 0.0, -jnp.inf)
    logits_BV = logits_BV.astype(jnp.float32) / config.temperature
    vocab_size = logits_BV.shape[-1]
    if 0 < config.top_k < vocab_size:
        lowest = jax.lax.top_k(logits_BV, config.top_k)[0][..., -1:]
        logits_BV = jnp.where(logits_BV < lowest, -jnp.inf, logits_BV)
    if config.top_p < 1:
        sorted_BV = -jnp.sort(-logits_BV, axis=-1)
        share_BV = jax.nn.softmax(sorted_BV, axis=-1)
        before_BV = jnp.cumsum(share_BV, axis=-1) - share_BV
        kept_BV = before_BV < config.top_p
        lowest = jnp.min(jnp.where(kept_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
        logits_BV = jnp.where(logits_BV < lowest, -jnp.inf, logits_BV)
    return jax.nn.log_softmax(logits_BV, axis=-1)


def sample(
    logits_BV: jax.Array, keys_B: jax.Array, config: SamplingConfig
) -> tuple[jax.Array, jax.Array]:
    """(ids_B, their log-probabilities_B); row b draws with key b alone."""
    logprobs_BV = logprobs(logits_BV, config)
    if config.temperature == 0:
        ids_B = jnp.argmax(logprobs_BV, axis=-1)
    else:
        ids_B = jax.vmap(jax.random.categorical)(keys_B, logprobs_BV)
    picked = jnp.take_along_axis(logprobs_BV, ids_B[:, None], axis=-1)[:, 0]
    return ids_B.astype(jnp.int32), picked
