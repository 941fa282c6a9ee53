"""LOSSES: sums over trained tokens, never averages.

Before: transformer.apply. After: train.step. Each returns (sum, metrics of sums), and
metrics['weight'] is what to divide by once all microbatches and devices are added up;
averages of averages never occur. Everything here is float32.
"""

from typing import Any, Callable, Mapping, NamedTuple

import jax
import jax.numpy as jnp

from genlm.model import layers, transformer
from genlm.model.config import TransformerConfig

WHOLE_VOCAB = 1 << 16  # a larger vocabulary always goes in chunks, of a quarter of it

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]
# loss(params, frozen, batch, key) -> (sum, metrics of sums)
Loss = Callable[[Any, Any, Batch, jax.Array | None], tuple[jax.Array, Metrics]]


class Shares(NamedTuple):
    """How much of what else is trained on, none of it in metrics['loss']: of the square
    of the log-sum of all logits, which keeps them from drifting (arXiv:2204.02311), and
    of what `moe.sums` says of the experts."""

    z: float = 0.0
    balance: float = 0.0
    router_z: float = 0.0


def make_next_token_loss(
    config: TransformerConfig, vocab_chunk: int = 0, shares: Shares = Shares()
) -> Loss:
    """Cross-entropy of the next token, in nats, weighted by batch['weights'].

    Args:
      vocab_chunk: vocabulary entries at a time; 0 for all at once, up to WHOLE_VOCAB.
        In chunks the logits [B, T, V] are never whole in memory, and computed twice.
    """

    def next_token_loss(params, frozen, batch, key):
        del frozen
        hidden_BTD, aux, _ = transformer.apply(params, batch, config, key=key)
        target_BT, total_BT = target_and_total(
            params, hidden_BTD, batch["targets"], config, vocab_chunk
        )
        loss = jnp.sum((total_BT - target_BT) * batch["weights"])
        sums = {"loss": loss, "weight": jnp.sum(batch["weights"])}
        more = {}
        if shares.z:
            squares = jnp.sum(jnp.square(total_BT) * batch["weights"])
            more["z_loss"] = shares.z * squares
        for name in ("balance", "router_z"):
            if share := getattr(shares, name):
                more[f"{name}_loss"] = share * jnp.sum(aux["routing"][name])
        return sum(more.values(), loss), sums | more

    return next_token_loss


def token_logprobs(*args: Any, **named: Any) -> jax.Array:
    """log p(target) [B, T]; arguments as `target_and_total`."""
    target_BT, total_BT = target_and_total(*args, **named)
    return target_BT - total_BT


def target_and_total(
    params: Any,
    hidden_BTD: jax.Array,
    targets_BT: jax.Array,
    config: TransformerConfig,
    vocab_chunk: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """The target's logit and the log-sum of all [B, T], in float32."""
    w_VD = transformer.unembedding(params)
    if not vocab_chunk and w_VD.shape[0] > WHOLE_VOCAB:
        vocab_chunk = WHOLE_VOCAB // 4
    if not vocab_chunk:
        logits_BTV = transformer.unembed(params, hidden_BTD, config)
        picked_BTV = jax.nn.one_hot(targets_BT, logits_BTV.shape[-1], dtype=bool)
        target_BT = jnp.sum(jnp.where(picked_BTV, logits_BTV, 0.0), axis=-1)
        return target_BT, jax.nn.logsumexp(logits_BTV, axis=-1)
    hidden_BTD = hidden_BTD.astype(config.dtype)
    target_BT = jnp.einsum(
        "BTD,BTD->BT",
        hidden_BTD,
        w_VD[targets_BT].astype(config.dtype),
        preferred_element_type=jnp.float32,
    )
    target_BT = layers.soft_cap(target_BT, config.logit_cap)
    return target_BT, _chunked_logsumexp(hidden_BTD, w_VD, config, vocab_chunk)


def _chunked_logsumexp(
    hidden_BTD, w_VD, config: TransformerConfig, chunk: int
) -> jax.Array:
    """logsumexp of hidden wᵀ [B, T], `chunk` rows of w at a time.

    The backward pass computes each chunk's logits again instead of keeping them.
    """
    V, D = w_VD.shape
    num = -(-V // chunk)
    padded_CVD = jnp.pad(w_VD, ((0, num * chunk - V), (0, 0))).reshape(num, chunk, D)
    real_CV = (jnp.arange(num * chunk) < V).reshape(num, chunk)

    @jax.checkpoint
    def add(total_BT, piece):
        w_vD, real_v = piece
        logits_BTv = jnp.einsum(
            "BTD,vD->BTv",
            hidden_BTD,
            w_vD.astype(config.dtype),
            preferred_element_type=jnp.float32,
        )
        logits_BTv = layers.soft_cap(logits_BTv, config.logit_cap)
        logits_BTv = jnp.where(real_v, logits_BTv, -jnp.inf)
        new = jax.nn.logsumexp(logits_BTv, axis=-1)
        return jnp.logaddexp(total_BT, new), None

    lowest_BT = jnp.full(hidden_BTD.shape[:2], jnp.finfo(jnp.float32).min)
    return jax.lax.scan(add, lowest_BT, (padded_CVD, real_CV))[0]
