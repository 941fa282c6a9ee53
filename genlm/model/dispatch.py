"""DISPATCH: tokens -> the experts that they chose -> their outputs, added up.

Before: moe.route. Three ways (`expert_dispatch`):
  dense     every expert reads every token, and what was not chosen counts nothing:
            right anywhere, as dear as a model of all experts
  grouped   each expert reads its own tokens, sorted, in grouped products
            (`jax.lax.ragged_dot`); no token is dropped (arXiv:2211.15841)
  capacity  each expert reads at most its capacity of each row's tokens, the first come;
            the others go without it (arXiv:2006.16668)
Where experts are split over devices, `grouped` gathers the tokens of that mesh axis and
scatters the sums; `capacity` sends each expert's tokens to it, and its outputs back.
"""

import functools
import math
from typing import Any, Callable, NamedTuple

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
        return _on_devices(_of_my_experts, (x_BTD, chosen_BTk, share_BTk), params, c)
    if c.expert_dispatch == "capacity":
        C = _capacity(chosen_BTk, c)
        place_BTk = _places(chosen_BTk, real_BT, c.num_experts, C)
        tokens = x_BTD, chosen_BTk, share_BTk, place_BTk
        return _on_devices(functools.partial(_exchanged, C=C), tokens, params, c)
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


class _Axes(NamedTuple):
    """Of the mesh: those over which experts, the mlp of each, rows, and the length of
    rows are split."""

    experts: tuple[str, ...]
    mlp: tuple[str, ...]
    rows: tuple[str, ...]
    length: tuple[str, ...]

    @property
    def are_apart(self) -> bool:
        """Whether devices with other experts have other tokens, too."""
        return bool(self.experts) and set(self.experts) <= set(self.rows)


def _on_devices(
    local: Callable[..., jax.Array],
    tokens: tuple[jax.Array, ...],
    params: Any,
    c: TransformerConfig,
) -> jax.Array:
    """What `local` makes of each device's tokens [B, T, ...] and experts."""
    up, gate, down = (params[name].astype(c.dtype) for name in ("up", "gate", "down"))
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return local(*tokens, up, gate, down, c=c, axes=_Axes((), (), (), ()))
    rows = sharding.partition(tokens[0].shape[:2], ("batch", "length"), mesh)
    wide = sharding.partition(up.shape, ("experts", "head_dim", "mlp"), mesh)
    at = PartitionSpec(*rows, None)
    axes = _Axes(*map(sharding.names, (wide[0], wide[2], *rows)))
    return jax.shard_map(
        functools.partial(local, c=c, axes=axes),
        mesh=mesh,
        in_specs=(
            *[at] * len(tokens),
            wide,
            wide,
            PartitionSpec(wide[0], wide[2], None),
        ),
        out_specs=at,
        check_vma=False,
    )(*tokens, up, gate, down)


def _of_my_experts(
    x_BTD, chosen_BTk, share_BTk, up_EDF, gate_EDF, down_EFD, *, c, axes: _Axes
) -> jax.Array:
    """What this device's experts add for the tokens of all that share them."""
    if axes.are_apart:
        gather = functools.partial(
            jax.lax.all_gather, axis_name=axes.experts, tiled=True
        )
        x_BTD, chosen_BTk, share_BTk = map(gather, (x_BTD, chosen_BTk, share_BTk))
    if axes.experts:
        chosen_BTk = _mine(chosen_BTk, up_EDF, axes)
    out_BTD = _of_groups(x_BTD, chosen_BTk, share_BTk, up_EDF, gate_EDF, down_EFD, c=c)
    if axes.mlp:
        out_BTD = jax.lax.psum(out_BTD, axes.mlp)
    if axes.are_apart:
        return jax.lax.psum_scatter(out_BTD, axes.experts, tiled=True)
    return jax.lax.psum(out_BTD, axes.experts) if axes.experts else out_BTD


def _mine(chosen_BTk, up_EDF, axes: _Axes) -> jax.Array:
    """Choices, counted from this device's first expert."""
    return chosen_BTk - jax.lax.axis_index(axes.experts) * up_EDF.shape[0]


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


def _capacity(chosen_BTk: jax.Array, c: TransformerConfig) -> int:
    """Tokens of a row that an expert reads at most."""
    T, k = chosen_BTk.shape[1:]
    return min(math.ceil(k * T / c.num_experts * c.capacity_factor), T)


def _places(
    chosen_BTk: jax.Array, real_BT: jax.Array, num_experts: int, capacity: int
) -> jax.Array:
    """Each choice's place among those of its row and expert; `capacity` where there is
    none left, and of PAD."""
    B, T, k = chosen_BTk.shape
    hot_BTkE = jax.nn.one_hot(chosen_BTk, num_experts, dtype=jnp.int32)
    hot_BTkE *= real_BT[..., None, None]
    # tokens come in their order, each with its first choice first
    before_BTkE = jnp.cumsum(hot_BTkE.reshape(B, T * k, -1), axis=1) - 1
    place_BTk = jnp.sum(before_BTkE.reshape(hot_BTkE.shape) * hot_BTkE, axis=-1)
    fits_BTk = real_BT[..., None] & (place_BTk < capacity)
    return jnp.where(fits_BTk, place_BTk, capacity)


def _exchanged(
    x_BTD,
    chosen_BTk,
    share_BTk,
    place_BTk,
    up_EDF,
    gate_EDF,
    down_EFD,
    *,
    C: int,
    c: TransformerConfig,
    axes: _Axes,
) -> jax.Array:
    """What experts add that read C places of each row."""
    E = c.num_experts
    if axes.experts and not axes.are_apart:
        E, chosen_BTk = up_EDF.shape[0], _mine(chosen_BTk, up_EDF, axes)
    hot_BTkE = jax.nn.one_hot(chosen_BTk, E, dtype=c.dtype)
    hot_BTkC = jax.nn.one_hot(place_BTk, C, dtype=c.dtype)

    def product(dims, *operands):
        if sharding.platform() == "cpu":  # whose 'bfloat16' products take few layouts
            operands = tuple(x.astype(jnp.float32) for x in operands)
        return jnp.einsum(dims, *operands, preferred_element_type=jnp.float32)

    taken_BTEC = jnp.einsum("BTkE,BTkC->BTEC", hot_BTkE, hot_BTkC)
    x_EBCD = product("BTEC,BTD->EBCD", taken_BTEC, x_BTD.astype(c.dtype))
    if axes.length:  # each has seen its stretch of the rows
        x_EBCD = jax.lax.psum(x_EBCD, axes.length)
    x_EBCD = x_EBCD.astype(c.dtype)
    if axes.are_apart:
        x_EBCD = jax.lax.all_to_all(x_EBCD, axes.experts, 0, 1, tiled=True)
    up_EBCF = product("EBCD,EDF->EBCF", x_EBCD, up_EDF)
    gate_EBCF = product("EBCD,EDF->EBCF", x_EBCD, gate_EDF)
    out_EBCF = layers.activate(up_EBCF, gate_EBCF, c.activation).astype(c.dtype)
    out_EBCD = product("EBCF,EFD->EBCD", out_EBCF, down_EFD)
    if axes.mlp:
        out_EBCD = jax.lax.psum(out_EBCD, axes.mlp)
    out_EBCD = out_EBCD.astype(c.dtype)
    if axes.are_apart:
        out_EBCD = jax.lax.all_to_all(out_EBCD, axes.experts, 1, 0, tiled=True)
    hot_BTkE *= share_BTk[..., None].astype(c.dtype)
    shares_BTEC = jnp.einsum("BTkE,BTkC->BTEC", hot_BTkE, hot_BTkC)
    out_BTD = product("BTEC,EBCD->BTD", shares_BTEC, out_EBCD)
    if axes.experts and not axes.are_apart:
        return jax.lax.psum(out_BTD, axes.experts)
    return out_BTD
