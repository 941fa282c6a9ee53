"""EXPERTS: several mlps, of which each token goes through a few.

https://arxiv.org/abs/1701.06538; the router's shares are a softmax over all experts,
of which the largest are kept, as in Mixtral (arXiv:2401.04088) and Qwen3-MoE. Here
every expert reads every token, and what was not chosen counts nothing: right on any
device, and as dear as a model of all experts.
"""

from typing import Any

import jax
import jax.numpy as jnp

from genlm.model import layers
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


def apply(
    x_BTD: jax.Array, params: Any, c: TransformerConfig, real_BT: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """(out_BTD, the share of experts that no token of the batch chose, if asked)."""
    shares_BTE = route(x_BTD, params["router"], c)

    def add(total_BTD, expert):
        up, gate, down, share_BT = expert
        up_BTF = layers.dense(x_BTD, up, c.dtype)
        gate_BTF = layers.dense(x_BTD, gate, c.dtype)
        out_BTF = layers.activate(up_BTF, gate_BTF, c.activation)
        out_BTD = layers.dense(out_BTF, down, c.dtype).astype(jnp.float32)
        return total_BTD + share_BT[..., None] * out_BTD, None

    experts = (params["up"], params["gate"], params["down"])
    shares_EBT = jnp.moveaxis(shares_BTE, -1, 0)
    zeros_BTD = jnp.zeros(x_BTD.shape, jnp.float32)
    out_BTD = jax.lax.scan(add, zeros_BTD, (*experts, shares_EBT))[0]
    idle = None
    if real_BT is not None:
        used_E = jnp.any((shares_BTE > 0) & (real_BT[..., None] > 0), axis=(0, 1))
        idle = jnp.mean(~used_E)
    return out_BTD.astype(x_BTD.dtype), idle


def route(x_BTD: jax.Array, w_DE: jax.Array, c: TransformerConfig) -> jax.Array:
    """Each expert's share of each token's output [B, T, E], float32; 0 where it is not
    among the token's experts."""
    logits_BTE = layers.dense(x_BTD, w_DE, c.dtype).astype(jnp.float32)
    shares_BTE = jax.nn.softmax(logits_BTE, axis=-1)
    best_BTk, chosen_BTk = jax.lax.top_k(shares_BTE, c.experts_per_token)
    if c.normalize_experts:
        best_BTk = best_BTk / jnp.sum(best_BTk, axis=-1, keepdims=True)
    hot_BTkE = jax.nn.one_hot(chosen_BTk, c.num_experts, dtype=jnp.float32)
    return jnp.sum(hot_BTkE * best_BTk[..., None], axis=-2)
