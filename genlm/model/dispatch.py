"""DISPATCH: tokens -> the experts that they chose -> their outputs, added up.

Before: moe.route. Three ways (`expert_dispatch`):
  dense     every expert reads every token, and what was not chosen counts nothing:
            right anywhere, as dear as a model of all experts
  grouped   each expert reads its own tokens, sorted, in grouped products
            (`jax.lax.ragged_dot`); no token is dropped (arXiv:2211.15841)
  capacity  each expert reads at most its capacity of each row's tokens, the first come;
            the others go without it (arXiv:2006.16668)
Where experts are split over devices, `grouped` gathers the tokens of that mesh axis and
scatters the sums; `capacity` leaves the exchange to the compiler.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from genlm.model import layers
from genlm.model.config import TransformerConfig
from genlm.parallel import sharding


def apply(
    x_BTD: jax.Array,
    chosen_BTk: jax.Array,
    share_BTk: jax.Array,
    params: Any,
    c: TransformerConfig,
    real_BT: jax.Array,
) -> jax.Array:
    """out_BTD: the chosen experts' outputs times their shares, float32."""
    if c.expert_dispatch == "grouped":
        return _grouped(x_BTD, chosen_BTk, share_BTk, params, c)
    if c.expert_dispatch == "capacity":
        return _with_capacity(x_BTD, chosen_BTk, share_BTk, params, c, real_BT)
    return _dense(x_BTD, chosen_BTk, share_BTk, params, c)


def _dense(x_BTD, chosen_BTk, share_BTk, params, c: TransformerConfig) -> jax.Array:
    hot_BTkE = jax.nn.one_hot(chosen_BTk, c.num_experts, dtype=jnp.float32)
    shares_EBT = jnp.einsum("BTkE,BTk->EBT", hot_BTkE, share_BTk)

    def add(total_BTD, expert):
        up, gate, down, share_BT = expert
        up_BTF = layers.dense(x_BTD, up, c.dtype)
        gate_BTF = layers.dense(x_BTD, gate, c.dtype)
        out_BTF = layers.activate(up_BTF, gate_BTF, c.activation)
        out_BTD = layers.dense(out_BTF, down, c.dtype).astype(jnp.float32)
        return total_BTD + share_BT[..., None] * out_BTD, None

    experts = (params["up"], params["gate"], params["down"])
    zeros_BTD = jnp.zeros(x_BTD.shape, jnp.float32)
    return jax.lax.scan(add, zeros_BTD, (*experts, shares_EBT))[0]


def _grouped(x_BTD, chosen_BTk, share_BTk, params, c: TransformerConfig) -> jax.Array:
    experts = params["up"], params["gate"], params["down"]
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return _of_groups(x_BTD, chosen_BTk, share_BTk, *experts, c=c)
    rows = sharding.partition(x_BTD.shape[:2], ("batch", "length"), mesh)
    wide = sharding.partition(experts[0].shape, ("experts", "head_dim", "mlp"), mesh)
    tokens = PartitionSpec(*rows, None)
    local = functools.partial(
        _of_my_experts,
        c=c,
        over=sharding.names(wide[0]),
        split=sharding.names(wide[2]),
        rows=sharding.names(rows[0]),
    )
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(
            tokens,
            tokens,
            tokens,
            wide,
            wide,
            PartitionSpec(wide[0], wide[2], None),
        ),
        out_specs=tokens,
        check_vma=False,
    )(x_BTD, chosen_BTk, share_BTk, *experts)


def _of_my_experts(
    x_BTD, chosen_BTk, share_BTk, up_EDF, gate_EDF, down_EFD, *, c, over, split, rows
) -> jax.Array:
    """What this device's experts add for the tokens of all that share them.

    Args:
      over, split: mesh axes over which experts, and the mlp of each, are split.
      rows: mesh axes over which rows are.
    """
    apart = over and set(over) <= set(rows)  # they have other tokens each
    if apart:
        gather = functools.partial(jax.lax.all_gather, axis_name=over, tiled=True)
        x_BTD, chosen_BTk, share_BTk = map(gather, (x_BTD, chosen_BTk, share_BTk))
    if over:
        chosen_BTk = chosen_BTk - jax.lax.axis_index(over) * up_EDF.shape[0]
    out_BTD = _of_groups(x_BTD, chosen_BTk, share_BTk, up_EDF, gate_EDF, down_EFD, c=c)
    if split:
        out_BTD = jax.lax.psum(out_BTD, split)
    if apart:
        return jax.lax.psum_scatter(out_BTD, over, tiled=True)
    return jax.lax.psum(out_BTD, over) if over else out_BTD


def _of_groups(
    x_BTD, chosen_BTk, share_BTk, up_EDF, gate_EDF, down_EFD, *, c: TransformerConfig
) -> jax.Array:
    """What experts 0 .. E - 1 add; a choice outside of them adds nothing."""
    B, T, D = x_BTD.shape
    E, k = up_EDF.shape[0], chosen_BTk.shape[-1]
    expert_P = chosen_BTk.reshape(-1)  # P pairs of a token and one of its experts
    is_here_P = (expert_P >= 0) & (expert_P < E)
    expert_P = jnp.where(is_here_P, expert_P, E)
    order_P = jnp.argsort(expert_P, stable=True)
    sizes_E = jnp.bincount(expert_P, length=E + 1)[:E].astype(jnp.int32)
    x_PD = x_BTD.reshape(-1, D)[order_P // k].astype(c.dtype)

    def product(x, w):
        return jax.lax.ragged_dot(
            x, w.astype(c.dtype), sizes_E, preferred_element_type=jnp.float32
        )

    out_PF = layers.activate(
        product(x_PD, up_EDF), product(x_PD, gate_EDF), c.activation
    )
    out_PD = product(out_PF.astype(c.dtype), down_EFD)
    out_PD = out_PD[jnp.argsort(order_P)]  # as the tokens stood
    weighted_PD = jnp.where(is_here_P[:, None], out_PD * share_BTk.reshape(-1, 1), 0.0)
    return jnp.sum(weighted_PD.reshape(B, T, k, D), axis=2)


def _with_capacity(
    x_BTD, chosen_BTk, share_BTk, params, c: TransformerConfig, real_BT
) -> jax.Array:
    B, T, k = chosen_BTk.shape
    E = c.num_experts
    C = min(math.ceil(k * T / E * c.capacity_factor), T)
    hot_BTkE = jax.nn.one_hot(chosen_BTk, E) * real_BT[..., None, None]
    # tokens come in their order, each with its first choice first
    before_BTkE = jnp.cumsum(hot_BTkE.reshape(B, T * k, E), axis=1) - 1
    place_BTk = jnp.sum(before_BTkE.reshape(B, T, k, E) * hot_BTkE, axis=-1)
    place_BTkC = jax.nn.one_hot(place_BTk.astype(jnp.int32), C)  # 0 past the last
    taken_BTEC = jnp.einsum("BTkE,BTkC->BTEC", hot_BTkE, place_BTkC)
    shares_BTEC = jnp.einsum("BTkE,BTkC,BTk->BTEC", hot_BTkE, place_BTkC, share_BTk)

    def product(dims, *operands):
        cast = [x.astype(c.dtype) for x in operands]
        return jnp.einsum(dims, *cast, preferred_element_type=jnp.float32)

    axes = ("experts", "batch", "head_dim", "head_dim")
    x_EBCD = product("BTEC,BTD->EBCD", taken_BTEC, x_BTD)
    x_EBCD = sharding.constrain(x_EBCD, *axes)
    up_EBCF = product("EBCD,EDF->EBCF", x_EBCD, params["up"])
    gate_EBCF = product("EBCD,EDF->EBCF", x_EBCD, params["gate"])
    out_EBCF = layers.activate(up_EBCF, gate_EBCF, c.activation)
    out_EBCD = product("EBCF,EFD->EBCD", out_EBCF, params["down"])
    out_EBCD = sharding.constrain(out_EBCD, *axes)
    return jnp.einsum("BTEC,EBCD->BTD", shares_BTEC, out_EBCD)
