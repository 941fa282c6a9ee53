"""THE TRANSFORMER: a decoder as one pure function of its parameters.

Before: batches. After: losses and sampling. `apply` returns the last hidden states;
`unembed` is apart, so that a loss can go through the vocabulary in chunks. Layers are
stacked on a leading dim: `scan_layers` loops over it (one layer is compiled, for any
depth), else the loop is unrolled (faster on a CPU); both read the same parameters.
"""

import dataclasses
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.model import attention
from genlm.model import cache as kv
from genlm.model import layers, looks, rope
from genlm.parallel.sharding import constrain
from genlm.parallel.specs import ParamSpec, Specs

Params = Mapping[str, Any]
REMAT = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The shape of a decoder and how it is computed."""

    vocab_size: int
    max_length: int  # positions a query sees back; rows are at most this long
    num_layers: int
    model_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    activation: str = "swiglu"
    use_bias: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    mup_base_width: int = 0  # model_dim of which the learning rate is; 0: no transfer
    dtype: str = "float32"  # of products: 'float32' or 'bfloat16'
    scan_layers: bool = False
    remat: str = "none"  # what the backward pass computes again: 'dots' keeps products

    def __post_init__(self) -> None:
        sizes = "vocab_size max_length num_layers model_dim num_heads head_dim mlp_dim"
        for name in sizes.split():
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is not positive")
        checks = {
            f"model.activation is one of {layers.ACTIVATIONS}": self.activation
            in layers.ACTIVATIONS,
            f"model.remat is one of {REMAT}": self.remat in REMAT,
            "model.dtype is float32 or bfloat16": self.dtype in ("float32", "bfloat16"),
            "model.num_heads is a multiple of num_kv_heads": self.num_kv_heads > 0
            and self.num_heads % self.num_kv_heads == 0,
            "model.head_dim is even": self.head_dim % 2 == 0,
            "model.rope_theta and norm_eps are positive": self.rope_theta > 0
            and self.norm_eps > 0,
            "model.dropout is in [0, 1)": 0 <= self.dropout < 1,
            "model.mup_base_width is 0 or more": self.mup_base_width >= 0,
        }
        for rule, kept in checks.items():
            if not kept:
                raise UserError(f"not so: {rule}")

    @property
    def width_ratio(self) -> float:
        """How many times as wide it is as the model that it takes its settings from."""
        return self.model_dim / self.mup_base_width if self.mup_base_width else 1.0


def param_specs(c: TransformerConfig) -> Specs:
    """The tree of ParamSpec; residual outputs start smaller by √(2L), as in GPT-2, and
    matrices of a block by √width_ratio (table 8 of arXiv:2203.03466)."""
    D, N, K, H, F = c.model_dim, c.num_heads, c.num_kv_heads, c.head_dim, c.mlp_dim
    usual = 0.02 / c.width_ratio**0.5
    small = usual / (2 * c.num_layers) ** 0.5

    def weight(shape, axes, scale=usual):
        return ParamSpec((c.num_layers, *shape), ("layers", *axes), scale=scale)

    def bias(shape, axes):
        return ParamSpec((c.num_layers, *shape), ("layers", *axes), init="zeros")

    norm = ParamSpec((c.num_layers, D), ("layers", "norm"), init="ones")
    heads, kv_heads = ("embed", "heads", "head_dim"), ("embed", "kv_heads", "head_dim")
    attend = {
        "q": weight((D, N, H), heads),
        "k": weight((D, K, H), kv_heads),
        "v": weight((D, K, H), kv_heads),
        "o": weight((N, H, D), ("heads", "head_dim", "embed"), small),
    }
    mlp = {
        "up": weight((D, F), ("embed", "mlp")),
        "down": weight((F, D), ("mlp", "embed"), small),
    }
    if c.activation in layers.GATED:
        mlp["gate"] = weight((D, F), ("embed", "mlp"))
    if c.use_bias:
        attend |= {
            "q_bias": bias((N, H), heads[1:]),
            "k_bias": bias((K, H), kv_heads[1:]),
            "v_bias": bias((K, H), kv_heads[1:]),
            "o_bias": bias((D,), ("norm",)),
        }
        mlp |= {f"{n}_bias": bias((F,), ("mlp",)) for n in mlp if n != "down"}
        mlp["down_bias"] = bias((D,), ("norm",))
    specs = {
        "embedding": ParamSpec((c.vocab_size, D), ("vocab", "embed")),
        "layers": {
            "attention_norm": norm,
            "attention": attend,
            "mlp_norm": norm,
            "mlp": mlp,
        },
        "final_norm": ParamSpec((D,), ("norm",), init="ones"),
    }
    if not c.tie_embeddings:
        specs["unembedding"] = ParamSpec((c.vocab_size, D), ("vocab", "embed"))
    return specs


def apply(
    params: Params,
    batch: Mapping[str, jax.Array],
    config: TransformerConfig,
    cache: kv.Cache | None = None,
    key: jax.Array | None = None,
    look: bool = False,
) -> tuple[jax.Array, dict[str, jax.Array], kv.Cache | None]:
    """Hidden states of a batch: (hidden_BTD, aux, cache with the batch appended).

    Args:
      batch: tokens, segments and positions [B, T]; see genlm.data.batches.
      cache: what was read before; the batch goes on from its index.
      key: for dropout; without one there is none.
      look: aux holds [L] each of what genlm.model.looks says of the inside.
    """
    c = config
    keys = [None] * (c.num_layers + 1)
    if key is not None and c.dropout:
        keys = list(jax.random.split(key, c.num_layers + 1))
    if cache is not None:
        cache = dataclasses.replace(
            cache,
            segments_BS=kv.write(cache.segments_BS, batch["segments"], cache.index),
            positions_BS=kv.write(cache.positions_BS, batch["positions"], cache.index),
        )
    mask_BTS = _mask(batch, c, cache)
    turn = rope.rotation(batch["positions"], c.head_dim, c.rope_theta)
    index = None if cache is None else cache.index

    real_BT = batch["segments"] > 0 if look else None

    def block(x_BTD, layer):
        params, kv_layer, key = layer
        return _block(x_BTD, params, c, mask_BTS, turn, kv_layer, index, key, real_BT)

    if c.remat != "none":
        saveable = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        block = jax.checkpoint(block, policy=saveable if c.remat == "dots" else None)

    x_BTD = params["embedding"][batch["tokens"]].astype(c.dtype)
    x_BTD = layers.dropout(x_BTD, c.dropout, keys[-1])
    x_BTD = constrain(x_BTD, "batch", "length", "norm")
    kv_layers: Any = None if cache is None else (cache.k_LBSKH, cache.v_LBSKH)
    stacked = (params["layers"], kv_layers, _stack(keys[:-1]))
    if c.scan_layers:
        x_BTD, (kv_layers, aux) = jax.lax.scan(block, x_BTD, stacked)
    else:
        new = []
        for layer in _unstack(stacked, c.num_layers):
            x_BTD, of_layer = block(x_BTD, layer)
            new.append(of_layer)
        kv_layers, aux = jax.tree.map(lambda *xs: jnp.stack(xs), *new)
    if cache is not None:
        k, v = kv_layers
        T = batch["tokens"].shape[1]
        cache = dataclasses.replace(cache, k_LBSKH=k, v_LBSKH=v, index=cache.index + T)
    hidden_BTD = layers.rms_norm(x_BTD, params["final_norm"], c.norm_eps)
    if c.width_ratio != 1:
        hidden_BTD = hidden_BTD / c.width_ratio  # so that logits keep their size
    return hidden_BTD, aux, cache


def _mask(batch, c: TransformerConfig, cache: kv.Cache | None) -> jax.Array:
    T = batch["tokens"].shape[1]
    segments, positions = batch["segments"], batch["positions"]
    first = 0 if cache is None else cache.index
    S = T if cache is None else cache.num_slots
    return attention.mask(
        query_slots_T=first + jnp.arange(T),
        key_slots_S=jnp.arange(S),
        query_segments_BT=segments,
        key_segments_BS=segments if cache is None else cache.segments_BS,
        query_positions_BT=positions,
        key_positions_BS=positions if cache is None else cache.positions_BS,
        window=c.max_length,
    )


def _block(
    x_BTD, params, c: TransformerConfig, mask_BTS, turn, kv_layer, index, key, real_BT
):
    """One layer: (x_BTD, (the layer's keys and values or None, what a look sees))."""
    keys = (None, None) if key is None else jax.random.split(key)
    normed = layers.rms_norm(x_BTD, params["attention_norm"], c.norm_eps)
    out, kv_layer, entropy = _attention(
        normed, params["attention"], c, mask_BTS, turn, kv_layer, index, real_BT
    )
    x_BTD = x_BTD + layers.dropout(out, c.dropout, keys[0])
    normed = layers.rms_norm(x_BTD, params["mlp_norm"], c.norm_eps)
    out, dead = _mlp(normed, params["mlp"], c, real_BT)
    x_BTD = x_BTD + layers.dropout(out, c.dropout, keys[1])
    seen = {}
    if real_BT is not None:
        activation = looks.root_mean_square(x_BTD, real_BT)
        seen = {"activation": activation, "attention_entropy": entropy, "dead": dead}
    return constrain(x_BTD, "batch", "length", "norm"), (kv_layer, seen)


def _attention(
    x_BTD, params, c: TransformerConfig, mask_BTS, turn, kv_layer, index, real_BT
):
    def project(name):
        y = layers.dense(x_BTD, params[name], c.dtype)
        return y + params[f"{name}_bias"].astype(y.dtype) if c.use_bias else y

    q_BTNH, k_BTKH, v_BTKH = project("q"), project("k"), project("v")
    q_BTNH = rope.rotate(q_BTNH, *turn).astype(c.dtype)
    k_BSKH, v_BSKH = rope.rotate(k_BTKH, *turn).astype(c.dtype), v_BTKH.astype(c.dtype)
    if kv_layer is not None:
        k_BSKH = kv.write(kv_layer[0], k_BSKH, index)
        v_BSKH = kv.write(kv_layer[1], v_BSKH, index)
        kv_layer = (k_BSKH, v_BSKH)
    entropy = None
    if real_BT is not None:
        entropy = looks.attention_entropy(q_BTNH, k_BSKH, mask_BTS, real_BT)
    out_BTNH = attention.attend(
        q_BTNH, k_BSKH, v_BSKH, mask_BTS, causal_square=index is None
    )
    out_BTD = layers.dense(out_BTNH, params["o"], c.dtype, contract=2)
    if c.use_bias:
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


def _stack(keys):
    return None if keys[0] is None else jnp.stack(keys)


def _unstack(tree, num: int) -> list[Any]:
    """The `num` layers of a stacked tree. The gradient of split is one concatenation;
    that of indexing would be `num` additions of the whole stack."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [jax.lax.split(leaf, (1,) * num) for leaf in leaves]
    return [
        jax.tree.unflatten(structure, [jnp.squeeze(p[i], 0) for p in parts])
        for i in range(num)
    ]


def unembedding(params: Params) -> jax.Array:
    """w_VD: the embedding itself where it is tied."""
    return params["unembedding"] if "unembedding" in params else params["embedding"]


def unembed(params: Params, hidden: jax.Array, dtype: str) -> jax.Array:
    """Logits [..., V] in float32."""
    w_VD = unembedding(params)
    logits_XV = layers.matmul(hidden.reshape(-1, hidden.shape[-1]), w_VD, dtype, "NK")
    return logits_XV.reshape(*hidden.shape[:-1], w_VD.shape[0])


def empty_cache(config: TransformerConfig, batch: int, slots: int) -> kv.Cache:
    """An empty cache for `batch` rows of up to `slots` tokens."""
    return kv.empty(
        layers=config.num_layers,
        batch=batch,
        slots=slots,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=config.dtype,
    )
