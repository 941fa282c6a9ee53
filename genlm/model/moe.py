"""EXPERTS: several mlps, of which each token goes through a few.

https://arxiv.org/abs/1701.06538; the router's shares are a softmax over all experts,
of which the largest are kept, as in Mixtral (arXiv:2401.04088) and Qwen3-MoE. How
tokens and experts come together is `dispatch`; here is who goes where.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genlm.model import dispatch, layers
from genlm.model.config import TransformerConfig
from genlm.parallel.specs import ParamSpec, Specs


def specs(c: TransformerConfig, scale: float, small: float) -> Specs:
    """The tree of ParamSpec of all layers' experts; `small` is of what they add."""
    L, E, D, F = c.num_layers, c.num_experts, c.model_dim, c.mlp_dim
    wide = ("layers", "experts", "embed", "mlp")
    return {
        "router": ParamSpec((L, D, E), ("layers", "embed", "experts"), scale=scale),
        "up": ParamSpec((L, E, D, F), wide, scale=scale),
        "gate": ParamSpec((L, E, D, F), wide, scale=scale),
        "down": ParamSpec(
            (L, E, F, D), ("layers", "experts", "mlp", "embed"), scale=small
        ),
    }


class Routed(NamedTuple):
    """Each token's experts (k of E) and its share of their outputs, float32; what the
    router scored, and the shares of all."""

    chosen_BTk: jax.Array
    share_BTk: jax.Array
    scores_BTE: jax.Array
    shares_BTE: jax.Array


def apply(
    x_BTD: jax.Array, params: Any, c: TransformerConfig, real_BT: jax.Array, look: bool
) -> tuple[jax.Array, jax.Array | None, dict[str, jax.Array]]:
    """(out_BTD; the share of experts that no token chose, if asked; sums for losses).

    Args:
      real_BT: which tokens are no PAD.
    """
    routed = route(x_BTD, params["router"], c)
    out_BTD = dispatch.apply(
        x_BTD, routed.chosen_BTk, routed.share_BTk, params, c, real_BT
    )
    idle = None
    if look:
        hot_BTkE = jax.nn.one_hot(routed.chosen_BTk, c.num_experts, dtype=bool)
        used_E = jnp.any(hot_BTkE & real_BT[..., None, None], axis=(0, 1, 2))
        idle = jnp.mean(~used_E)
    return out_BTD.astype(x_BTD.dtype), idle, sums(routed, real_BT)


def route(x_BTD: jax.Array, w_DE: jax.Array, c: TransformerConfig) -> Routed:
    """Which experts each token goes through."""
    scores_BTE = layers.dense(x_BTD, w_DE, c.dtype).astype(jnp.float32)
    shares_BTE = jax.nn.softmax(scores_BTE, axis=-1)
    best_BTk, chosen_BTk = jax.lax.top_k(shares_BTE, c.experts_per_token)
    if c.normalize_experts:
        best_BTk = best_BTk / jnp.sum(best_BTk, axis=-1, keepdims=True)
    return Routed(chosen_BTk, best_BTk, scores_BTE, shares_BTE)


def sums(routed: Routed, real_BT: jax.Array) -> dict[str, jax.Array]:
    """What auxiliary losses are made of, added up over the tokens of a batch.

    balance: Σ f_e P_e of each row, times its tokens: 1 a token where all experts are
      chosen alike (equation 17 of arXiv:2412.19437; of a row, so that neither
      microbatches nor the mesh change it).
    router_z: the square of the log-sum of scores (equation 5 of arXiv:2202.08906).
    """
    real_BT = real_BT.astype(jnp.float32)
    E, k = routed.scores_BTE.shape[-1], routed.chosen_BTk.shape[-1]
    tokens_B1 = jnp.maximum(jnp.sum(real_BT, axis=1, keepdims=True), 1.0)
    hot_BTE = jnp.sum(jax.nn.one_hot(routed.chosen_BTk, E), axis=2)
    chosen_BE = jnp.einsum("BTE,BT->BE", hot_BTE, real_BT) * (E / k) / tokens_B1
    share_BE = jnp.einsum("BTE,BT->BE", routed.shares_BTE, real_BT)
    logsum_BT = jax.nn.logsumexp(routed.scores_BTE, axis=-1)
    return {
        "balance": jnp.sum(jax.lax.stop_gradient(chosen_BE) * share_BE),
        "router_z": jnp.sum(jnp.square(logsum_BT) * real_BT),
    }
