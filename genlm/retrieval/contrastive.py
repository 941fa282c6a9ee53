"""CONTRAST: a query's vector near its passage's, and far from all others of the batch.

Before: batches of pairs, pooled as `embed` does. After: train.step. InfoNCE
(https://arxiv.org/abs/1807.03748): of all passages of the batch, and a query's hard
negatives among them, its own is to be told. Under jit a batch is one array, whatever
devices hold it, so the passages of all devices are negatives to each other.
"""

from typing import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genlm.model.config import TransformerConfig
from genlm.retrieval import embed, neighbours

SIDES = ("query", "passage")
_ROWS = ("tokens", "segments", "positions", "pooled")  # of either side, as of `padded`


def make_contrastive_loss(
    config: TransformerConfig,
    temperature: float,
    sizes: Sequence[int],
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """The loss of queries [B, ...] against passages [B, P, ...], of which the first is
    a query's own and the others are its hard negatives.

    A batch holds, for either side, what `embed.padded` gives, as query_tokens and so
    on; passage_ids [B, P], by which a query's own passage is known where it stands
    again; and weights [B, 1].

    Args:
      sizes: leading numbers of the vectors that each are to do alone; the loss is the
        mean over them (Matryoshka, https://arxiv.org/abs/2205.13147).
    """

    def contrastive_loss(params, frozen, batch, key):
        del frozen
        keys = [None, None] if key is None else jax.random.split(key)
        query_BD, passage_XD = (
            embed.pooled_vectors(params, _side(batch, side), config, key)
            for side, key in zip(SIDES, keys)
        )
        weights_B, is_other_BX = batch["weights"][:, 0], others(batch["passage_ids"])
        loss = correct = jnp.zeros(())
        for size in sizes:
            scores_BX = jnp.einsum(
                "BD,XD->BX",
                embed.cut_to(query_BD, size),
                embed.cut_to(passage_XD, size),
                precision="highest",  # a temperature multiplies what is rounded
            )
            loss_B, correct_B = info_nce(scores_BX / temperature, is_other_BX)
            loss += jnp.sum(loss_B * weights_B) / len(sizes)
            correct += jnp.sum(correct_B * weights_B) / len(sizes)
        weight = jnp.sum(weights_B)
        return loss, {"loss": loss, "correct": correct, "weight": weight}

    return contrastive_loss


def others(ids_BP: jax.Array) -> jax.Array:
    """is_other_BX: whether a passage is another than the query's own, X = B P of them
    in order. The same passage again is neither its own nor a negative: false too."""
    return ids_BP[:, :1] != ids_BP.reshape(1, -1)


def info_nce(
    scores_BX: jax.Array, is_other_BX: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """-log of the share [B] of a query's own passage, in nats, and whether it scores
    highest. Own is the first of each query's X / B passages."""
    B, X = scores_BX.shape
    own_B = scores_BX[jnp.arange(B), jnp.arange(B) * (X // B)]
    lowest = jnp.finfo(scores_BX.dtype).min
    other_BX = jnp.where(is_other_BX, scores_BX, lowest)
    total_B = jnp.logaddexp(own_B, jax.nn.logsumexp(other_BX, axis=1))
    return total_B - own_B, own_B > jnp.max(other_BX, axis=1)


def held_out(
    queries_QD: np.ndarray,
    passages_ND: np.ndarray,
    own_Q: np.ndarray,
    temperature: float,
) -> dict[str, float]:
    """Of queries that look for their own among all passages: the loss in nats, and the
    shares that find it first, and among the first ten."""
    ranks_Q = neighbours.ranks(queries_QD, passages_ND, own_Q)
    scores_QN = queries_QD @ passages_ND.T / temperature
    own = np.take_along_axis(scores_QN, own_Q[:, None], axis=1)[:, 0]
    highest_Q1 = scores_QN.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores_QN - highest_Q1).sum(axis=1)) + highest_Q1[:, 0]
    return {
        "valid_loss": float(np.mean(total - own)),
        **{f"valid_recall_{k}": float(np.mean(ranks_Q < k)) for k in (1, 10)},
    }


def _side(batch: dict[str, jax.Array], side: str) -> dict[str, jax.Array]:
    """The rows [X, T] of one side."""
    rows = {name: batch[f"{side}_{name}"] for name in _ROWS}
    return {name: x.reshape(-1, x.shape[-1]) for name, x in rows.items()}
