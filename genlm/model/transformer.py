"""THE TRANSFORMER: a decoder as one pure function of its parameters.

Before: batches. After: losses and sampling. `apply` returns the last hidden states;
`unembed` is apart, so that a loss can go through the vocabulary in chunks. Layers are
stacked on a leading dim: `scan_layers` loops over it (one layer is compiled, for any
depth), else the loop is unrolled (faster on a CPU); both read the same parameters.
"""

import dataclasses
import functools
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from genlm.model import block
from genlm.model import cache as kv
from genlm.model import layers, ring, rope
from genlm.model.block import Context, View
from genlm.model.config import TransformerConfig
from genlm.model.sight import Sight, mask
from genlm.parallel.sharding import constrain
from genlm.parallel.specs import ParamSpec, Specs

Params = Mapping[str, Any]
_OF_NOISE = 1 << 20  # a key for it that no layer's dropout has


def param_specs(c: TransformerConfig) -> Specs:
    """The tree of ParamSpec."""
    D, vocab = c.model_dim, ("vocab", "embed")
    specs = {
        "embedding": ParamSpec((c.vocab_size, D), vocab),
        "layers": block.block_specs(c),
        **block.norm_specs(c, "final_norm", D, stacked=False),
    }
    if c.positions == "learned":
        specs["positions"] = ParamSpec((c.max_length, D), ("positions", "embed"))
    if not c.tie_embeddings:
        specs["unembedding"] = ParamSpec((c.vocab_size, D), vocab)
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
      key: for dropout and noise; without one there is none.
      look: aux holds [L] each of what genlm.model.looks says of the inside; of experts
        it always holds aux['routing'], [L] each of `moe.sums`.
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
    views = {kind: _view(kind, batch, c, cache, look) for kind in sorted(set(c.kinds))}
    context = Context(
        index=None if cache is None else cache.index,
        real_BT=batch["segments"] > 0,
        look=look,
    )

    def run_block(x_BTD, layer, view):
        params, kv_layer, key = layer
        return block.apply(x_BTD, params, c, view, context, kv_layer, key)

    if c.remat != "none":
        saveable = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        run_block = jax.checkpoint(
            run_block, policy=saveable if c.remat == "dots" else None
        )

    x_BTD = _embed(params, batch, c, key)
    x_BTD = layers.dropout(x_BTD, c.dropout, keys[-1])
    x_BTD = constrain(x_BTD, "batch", "length", "norm")
    kv_layers: Any = None if cache is None else (cache.k_LBSKH, cache.v_LBSKH)
    own = (params["layers"], _stack(keys[:-1]))
    if c.scan_layers:
        x_BTD, (kv_layers, aux) = _scan(
            run_block, x_BTD, (own[0], kv_layers, own[1]), views, c.kinds
        )
    else:
        x_BTD, kv_layers, aux = _unrolled(
            run_block, x_BTD, own, kv_layers, views, c.kinds
        )
    if cache is not None:
        k, v = kv_layers
        T = batch["tokens"].shape[1]
        cache = dataclasses.replace(cache, k_LBSKH=k, v_LBSKH=v, index=cache.index + T)
    hidden_BTD = block.norm(x_BTD, params, "final_norm", c)
    if c.width_ratio != 1:
        hidden_BTD = hidden_BTD / c.width_ratio  # so that logits keep their size
    return hidden_BTD, aux, cache


def _embed(params: Params, batch, c: TransformerConfig, key) -> jax.Array:
    x_BTD = params["embedding"][batch["tokens"]].astype(c.dtype)
    if key is not None and c.embedding_noise:
        key = jax.random.fold_in(key, _OF_NOISE)
        noise_BTD = layers.embedding_noise(
            batch["segments"], c.model_dim, c.embedding_noise, key
        )
        x_BTD = x_BTD + noise_BTD.astype(c.dtype)
    if c.embedding_scale != 1:
        x_BTD = x_BTD * jnp.asarray(c.embedding_scale, c.dtype)
    if c.positions == "learned":
        x_BTD = x_BTD + params["positions"][batch["positions"]].astype(c.dtype)
    return x_BTD


def _view(
    kind: str, batch, c: TransformerConfig, cache: kv.Cache | None, look: bool
) -> View:
    """What layers of a kind (G or L) see."""
    T = batch["tokens"].shape[1]
    segments, positions = batch["segments"], batch["positions"]
    first = 0 if cache is None else cache.index
    S = T if cache is None else cache.num_slots
    sight = Sight(
        query_slots_T=first + jnp.arange(T),
        key_slots_S=jnp.arange(S),
        query_segments_BT=segments,
        key_segments_BS=segments if cache is None else cache.segments_BS,
        query_positions_BT=positions,
        key_positions_BS=positions if cache is None else cache.positions_BS,
        window=c.max_length if kind == "G" else min(c.window, c.max_length),
    )
    is_whole = look or cache is not None or ring.axis_of(T) is None
    seen = sight, mask(sight) if is_whole else None
    if c.positions == "learned":
        return View(*seen, None, None)
    if kind == "L" and c.rope_local_theta:
        turn = rope.rotation(positions, c.head_dim, c.rope_local_theta)
    else:
        scaling = rope.Scaling(
            c.rope_scaling,
            c.rope_factor,
            c.rope_low,
            c.rope_high,
            c.rope_original_length,
        )
        turn = rope.rotation(positions, c.head_dim, c.rope_theta, scaling)
    return View(*seen, *turn)


def _scan(run_block, x_BTD, stacked, views: Mapping[str, View], kinds: str):
    """The blocks as a loop, each with the view of its kind."""
    if len(views) == 1:
        (view,) = views.values()
        return jax.lax.scan(lambda x, layer: run_block(x, layer, view), x_BTD, stacked)

    def choose(x_BTD, layer):
        is_local, layer = layer
        local, whole = (functools.partial(run_block, view=views[kind]) for kind in "LG")
        return jax.lax.cond(is_local, local, whole, x_BTD, layer)

    is_local_L = jnp.array([kind == "L" for kind in kinds])
    return jax.lax.scan(choose, x_BTD, (is_local_L, stacked))


def _unrolled(run_block, x_BTD, own, kv_layers, views: Mapping[str, View], kinds: str):
    """The blocks one after another, each with the view of its kind. All write into the
    stacks of keys and values themselves: in a turn of decoding nothing but its own
    slots is written, where layers taken out and stacked again would all be copied."""
    looks = []
    for number, (params, key) in enumerate(_unstack(own, len(kinds))):
        kv_layer = kv_layers and kv.Layer(kv_layers[0], kv_layers[1], number)
        layer = (params, kv_layer, key)
        x_BTD, (kv_layers, look) = run_block(x_BTD, layer, views[kinds[number]])
        looks.append(look)
    return x_BTD, kv_layers, jax.tree.map(lambda *xs: jnp.stack(xs), *looks)


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


def unembed(params: Params, hidden: jax.Array, config: TransformerConfig) -> jax.Array:
    """Logits [..., V] in float32."""
    w_VD = unembedding(params)
    hidden_XD = hidden.reshape(-1, hidden.shape[-1])
    logits_XV = layers.matmul(hidden_XD, w_VD, config.dtype, "NK")
    logits_XV = layers.soft_cap(logits_XV, config.logit_cap)
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
