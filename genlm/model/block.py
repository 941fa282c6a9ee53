"""A BLOCK: attention, then an mlp or experts, each added to what flows through.

Before: the embedding or the block before. After: the next block or the last norm.
"""

import dataclasses
from typing import Any

import jax

from genlm.model import attention
from genlm.model import cache as kv
from genlm.model import layers, looks, moe, ring, rope
from genlm.model.config import TransformerConfig
from genlm.model.sight import Sight
from genlm.parallel.sharding import constrain
from genlm.parallel.specs import ParamSpec, Specs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class View:
    """What the queries of a layer may see, and how positions turn there."""

    sight: Sight
    mask_BTS: jax.Array | None  # None where no device sees a whole row
    cos: jax.Array | None  # None where positions are not rotary
    sin: jax.Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """What all layers read: slots of the cache written so far (None without one),
    which tokens are no PAD, and whether somebody looks inside."""

    index: jax.Array | None
    real_BT: jax.Array
    look: bool = dataclasses.field(metadata={"static": True})


def block_specs(c: TransformerConfig) -> Specs:
    """The tree of ParamSpec of all layers, stacked; residual outputs start smaller by
    √(2L), as in GPT-2, and matrices by √width_ratio (table 8 of arXiv:2203.03466)."""
    D, N, K, H, F = c.model_dim, c.num_heads, c.num_kv_heads, c.head_dim, c.mlp_dim
    usual = 0.02 / c.width_ratio**0.5
    small = usual / (2 * c.num_layers) ** 0.5

    def weight(shape, axes, scale=usual):
        return ParamSpec((c.num_layers, *shape), ("layers", *axes), scale=scale)

    def bias(shape, axes):
        return ParamSpec((c.num_layers, *shape), ("layers", *axes), init="zeros")

    heads, kv_heads = ("embed", "heads", "head_dim"), ("embed", "kv_heads", "head_dim")
    attend = {
        "q": weight((D, N, H), heads),
        "k": weight((D, K, H), kv_heads),
        "v": weight((D, K, H), kv_heads),
        "o": weight((N, H, D), ("heads", "head_dim", "embed"), small),
    }
    if c.use_bias or c.qkv_bias:
        attend["q_bias"] = bias((N, H), heads[1:])
        attend |= {f"{n}_bias": bias((K, H), kv_heads[1:]) for n in "kv"}
    if c.use_bias:
        attend["o_bias"] = bias((D,), ("norm",))
    if c.qk_norm:
        attend |= norm_specs(c, "q_norm", H, stacked=True)
        attend |= norm_specs(c, "k_norm", H, stacked=True)
    if c.num_experts:
        mlp = dict(moe.specs(c, usual, small))
    else:
        mlp = {
            "up": weight((D, F), ("embed", "mlp")),
            "down": weight((F, D), ("mlp", "embed"), small),
        }
        if c.activation in layers.GATED:
            mlp["gate"] = weight((D, F), ("embed", "mlp"))
    if c.use_bias:
        mlp |= {f"{n}_bias": bias((F,), ("mlp",)) for n in mlp if n != "down"}
        mlp["down_bias"] = bias((D,), ("norm",))
    specs = {"attention": attend, "mlp": mlp}
    for name in ("attention", "mlp"):
        specs |= norm_specs(c, f"{name}_norm", D, stacked=True)
        if c.post_norms:
            specs |= norm_specs(c, f"post_{name}_norm", D, stacked=True)
    return specs


def norm_specs(c: TransformerConfig, name: str, dim: int, *, stacked: bool) -> Specs:
    """The parameters of a norm over `dim`, under its `name`. Those of heads have no
    bias in any family."""
    shape = (c.num_layers, dim) if stacked else (dim,)
    axes = ("layers", "norm") if stacked else ("norm",)
    specs = {name: ParamSpec(shape, axes, init="zeros" if c.unit_offset else "ones")}
    if c.norm == "layer":
        specs[f"{name}_bias"] = ParamSpec(shape, axes, init="zeros")
    return specs


def norm(x: jax.Array, params: Any, name: str, c: TransformerConfig) -> jax.Array:
    """x normed over its last dim by the parameters of that name."""
    scale = params[name] + 1 if c.unit_offset else params[name]
    if c.norm == "layer":
        return layers.layer_norm(x, scale, params[f"{name}_bias"], c.norm_eps)
    return layers.rms_norm(x, scale, c.norm_eps)


def apply(
    x_BTD: jax.Array,
    params: Any,
    c: TransformerConfig,
    view: View,
    context: Context,
    kv_layer: Any,
    key: jax.Array | None,
):
    """One layer: (x_BTD, (where its keys and values are kept or None, what a look sees
    and, of experts, sums for losses))."""
    keys = (None, None) if key is None else jax.random.split(key)
    real_BT = context.real_BT
    seen: dict[str, Any] = {}
    normed = norm(x_BTD, params, "attention_norm", c)
    out, kv_layer, entropy = _attention(
        normed, params["attention"], c, view, context, kv_layer
    )
    if c.post_norms:
        out = norm(out, params, "post_attention_norm", c)
    x_BTD = x_BTD + layers.dropout(out, c.dropout, keys[0])
    normed = norm(x_BTD, params, "mlp_norm", c)
    if c.num_experts:
        out, dead, seen["routing"] = moe.apply(
            normed, params["mlp"], c, real_BT, context.look
        )
    else:
        out, dead = _mlp(normed, params["mlp"], c, real_BT if context.look else None)
    if c.post_norms:
        out = norm(out, params, "post_mlp_norm", c)
    x_BTD = x_BTD + layers.dropout(out, c.dropout, keys[1])
    if context.look:
        activation = looks.root_mean_square(x_BTD, real_BT)
        seen |= {"activation": activation, "attention_entropy": entropy, "dead": dead}
    return constrain(x_BTD, "batch", "length", "norm"), (kv_layer, seen)


def _attention(x_BTD, params, c: TransformerConfig, view, context, kv_layer):
    def project(name):
        y = layers.dense(x_BTD, params[name], c.dtype)
        bias = params.get(f"{name}_bias")
        return y if bias is None else y + bias.astype(y.dtype)

    q_BTNH, k_BTKH, v_BTKH = project("q"), project("k"), project("v")
    if c.qk_norm:
        q_BTNH = norm(q_BTNH, params, "q_norm", c)
        k_BTKH = norm(k_BTKH, params, "k_norm", c)
    if view.cos is not None:
        q_BTNH = rope.rotate(q_BTNH, view.cos, view.sin)
        k_BTKH = rope.rotate(k_BTKH, view.cos, view.sin)
    q_BTNH, k_BSKH = q_BTNH.astype(c.dtype), k_BTKH.astype(c.dtype)
    v_BSKH = v_BTKH.astype(c.dtype)
    if kv_layer is not None:
        (k_BSKH, v_BSKH), kv_layer = kv.append(
            kv_layer, (k_BSKH, v_BSKH), context.index
        )
    entropy = None
    if context.look:
        entropy = looks.attention_entropy(
            q_BTNH,
            k_BSKH,
            view.mask_BTS,
            context.real_BT,
            scale=c.query_scale,
            cap=c.attention_cap,
        )
    how = {"scale": c.query_scale, "cap": c.attention_cap}
    axis = ring.axis_of(x_BTD.shape[1]) if context.index is None else None
    if axis is not None:
        out_BTNH = ring.attend(q_BTNH, k_BSKH, v_BSKH, view.sight, axis, **how)
    else:
        out_BTNH = attention.attend(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            view.sight,
            view.mask_BTS,
            causal_square=context.index is None,
            **how,
        )
    out_BTD = layers.dense(out_BTNH, params["o"], c.dtype, contract=2)
    if "o_bias" in params:
        out_BTD = out_BTD + params["o_bias"].astype(out_BTD.dtype)
    return out_BTD.astype(x_BTD.dtype), kv_layer, entropy


def _mlp(x_BTD, params, c: TransformerConfig, real_BT):
    def project(name, x):
        y = layers.dense(x, params[name], c.dtype)
        return y + params[f"{name}_bias"].astype(y.dtype) if c.use_bias else y

    up_BTF = project("up", x_BTD)
    gated = c.activation in layers.GATED
    gate_BTF = project("gate", x_BTD) if gated else None
    out_BTF = layers.activate(up_BTF, gate_BTF, c.activation)
    dead = None if real_BT is None else looks.dead_share(out_BTF, real_BT)
    return project("down", out_BTF).astype(x_BTD.dtype), dead
