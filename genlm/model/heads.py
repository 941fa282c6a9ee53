"""HEADS: what reads a model's hidden states besides the unembedding.

Before: transformer.apply. After: classification, reward models. A head reads one vector
of a document: that of its last token, or the mean of all up to there. Both are made at
every token, so that packed rows need nothing else.
"""

import dataclasses
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel.specs import ParamSpec, Specs

POOLS = ("last", "mean")


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """labels: a name for each of its outputs, in order; pool: one of POOLS."""

    labels: tuple[str, ...]
    pool: str

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UserError(f"head.pool {self.pool!r} is none of {POOLS}")


def head_specs(model: TransformerConfig, head: HeadConfig) -> Specs:
    """The tree of ParamSpec; it starts at 0, where all outputs are alike."""
    shape = (model.model_dim, len(head.labels))
    return {
        "weight": ParamSpec(shape, ("embed", "norm"), init="zeros"),
        "bias": ParamSpec(shape[1:], ("norm",), init="zeros"),
    }


def pooled(hidden_BTD: jax.Array, segments_BT: jax.Array, pool: str) -> jax.Array:
    """vectors_BTD, float32: at each token what its document has up to there."""
    hidden_BTD = hidden_BTD.astype(jnp.float32)
    if pool == "last":
        return hidden_BTD
    T = segments_BT.shape[1]
    same_BTS = segments_BT[:, :, None] == segments_BT[:, None, :]
    seen_BTS = same_BTS & jnp.tril(jnp.ones((T, T), bool))
    share_BTS = seen_BTS / jnp.sum(seen_BTS, axis=-1, keepdims=True)
    return jnp.einsum(
        "BTS,BSD->BTD", share_BTS, hidden_BTD, preferred_element_type=jnp.float32
    )


def apply(params, vectors_BTD: jax.Array) -> jax.Array:
    """outputs_BTC, float32, of pooled vectors."""
    outputs_BTC = jnp.einsum(
        "BTD,DC->BTC",
        vectors_BTD,
        params["weight"],
        preferred_element_type=jnp.float32,
    )
    return outputs_BTC + params["bias"]


def outputs(
    params: Any,
    batch: Mapping[str, jax.Array],
    model: TransformerConfig,
    head: HeadConfig,
    key: jax.Array | None = None,
) -> jax.Array:
    """outputs_BTC, float32, of params {"model", "head"} at every token of a batch."""
    hidden_BTD, _, _ = transformer.apply(params["model"], batch, model, key=key)
    vectors_BTD = pooled(hidden_BTD, batch["segments"], head.pool)
    return apply(params["head"], vectors_BTD)
