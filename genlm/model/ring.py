"""RING ATTENTION: each device holds a stretch of every row, and keys come round.

Before: attention, where a row's length is split over devices. Keys and values pass
from device to device (arXiv:2310.01889) and are read a chunk at a time with a running
softmax (arXiv:1805.02867), so that no device ever holds all keys or all scores; the
gradient goes round once more and computes the scores again (algorithm 4 of
arXiv:2205.14135). Short rows' keys are gathered instead: one message in place of many.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from genlm.model import attention, layers
from genlm.model.sight import Sight, mask
from genlm.parallel import sharding

GATHERED = 4096  # keys of rows up to this length are gathered
CHUNK = 1024  # keys that are read at a time

_LOWEST = jnp.finfo(jnp.float32).min


class How(NamedTuple):
    """What is known when it is compiled."""

    axis: str  # of the mesh, over which a row is split
    scale: float
    cap: float
    chunk: int


def axis_of(length: int) -> str | None:
    """The mesh axis over which rows of that length are split; None where they are
    whole."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return None
    (entry,) = sharding.partition((length,), ("length",), mesh)
    axes = sharding.names(entry)
    return axes[0] if axes else None


def attend(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    sight: Sight,
    axis: str,
    *,
    scale: float,
    cap: float,
) -> jax.Array:
    """out_BTNH of rows that are split over the mesh axis `axis`."""
    mesh = jax.sharding.get_abstract_mesh()
    length = q_BTNH.shape[1]
    q_at, k_at = (
        sharding.partition(x.shape, ("batch", "length", heads, "head_dim"), mesh)
        for x, heads in ((q_BTNH, "heads"), (k_BTKH, "kv_heads"))
    )
    if q_at[2] != k_at[2]:  # some device would lack its queries' keys
        q_at = k_at = PartitionSpec(*q_at[:2], None, None)
    rows, slots = PartitionSpec(*q_at[:2]), PartitionSpec(q_at[1])
    seen_at = Sight(slots, slots, rows, rows, rows, rows, sight.window)
    here = length // mesh.shape[axis]
    how = How(axis, scale, cap, CHUNK if here % CHUNK == 0 else here)
    local = functools.partial(_gathered if length <= GATHERED else _ring, how)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(q_at, k_at, k_at, seen_at),
        out_specs=q_at,
        check_vma=False,
    )(q_BTNH, k_BTKH, v_BTKH, sight)


def _gathered(how: How, q_BTNH, k_BTKH, v_BTKH, sight: Sight) -> jax.Array:
    """Of this device's queries and everybody's keys."""
    whole = functools.partial(jax.lax.all_gather, axis_name=how.axis, tiled=True)
    sight = sight.replace(
        key_slots_S=whole(sight.key_slots_S),
        key_segments_BS=whole(sight.key_segments_BS, axis=1),
        key_positions_BS=whole(sight.key_positions_BS, axis=1),
    )
    return attention.attend(
        q_BTNH,
        whole(k_BTKH, axis=1),
        whole(v_BTKH, axis=1),
        sight,
        mask(sight),
        causal_square=False,
        scale=how.scale,
        cap=how.cap,
    )


def _ring(how: How, q_BTNH, k_BTKH, v_BTKH, sight: Sight) -> jax.Array:
    """Of this device's queries and the keys that come round."""
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    q_BKGTH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k_BKSH, v_BKSH = k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)
    out_BKGTH = _round(q_BKGTH, k_BKSH, v_BKSH, sight, how)
    out_BTNH = out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(q_BTNH.shape)
    return out_BTNH.astype(q_BTNH.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _round(q_BKGTH, k_BKSH, v_BKSH, sight: Sight, how: How) -> jax.Array:
    """out_BKGTH, float32."""
    return _forward(q_BKGTH, k_BKSH, v_BKSH, sight, how)[0]


def _forward(q_BKGTH, k_BKSH, v_BKSH, sight: Sight, how: How):
    nothing = (
        jnp.zeros(q_BKGTH.shape, jnp.float32),
        jnp.full((*q_BKGTH.shape[:-1], 1), _LOWEST),
        jnp.zeros((*q_BKGTH.shape[:-1], 1), jnp.float32),
    )

    def read(seen, chunk):
        """A chunk of keys more."""
        out_BKGTH, highest_BKGT1, total_BKGT1 = seen
        k_BKCH, v_BKCH, keys = chunk
        scores_BKGTC, _ = _scores(q_BKGTH, k_BKCH, sight.of(*keys), how)
        here_BKGT1 = jnp.max(scores_BKGTC, axis=-1, keepdims=True)
        new_BKGT1 = jnp.maximum(highest_BKGT1, here_BKGT1)
        shares_BKGTC = jnp.exp(scores_BKGTC - new_BKGT1)
        kept_BKGT1 = jnp.exp(highest_BKGT1 - new_BKGT1)
        total_BKGT1 = kept_BKGT1 * total_BKGT1
        total_BKGT1 += jnp.sum(shares_BKGTC, axis=-1, keepdims=True)
        out_BKGTH = kept_BKGT1 * out_BKGTH + attention.product(
            "BKGTC,BKCH->BKGTH", shares_BKGTC.astype(v_BKCH.dtype), v_BKCH
        )
        return (out_BKGTH, new_BKGT1, total_BKGT1), None

    def turn(carry, _):
        seen, held = carry
        seen, _ = jax.lax.scan(read, seen, _chunks(held, how.chunk))
        return (seen, _pass_on(held, how.axis)), None

    held = (k_BKSH, v_BKSH, sight.keys)
    ways = jax.lax.axis_size(how.axis)
    (seen, _), _ = jax.lax.scan(turn, (nothing, held), length=ways)
    out_BKGTH, highest_BKGT1, total_BKGT1 = seen
    out_BKGTH = out_BKGTH / total_BKGT1
    logsum_BKGT1 = highest_BKGT1 + jnp.log(total_BKGT1)
    return out_BKGTH, (q_BKGTH, k_BKSH, v_BKSH, sight, out_BKGTH, logsum_BKGT1)


def _backward(how: How, saved, gradient_BKGTH):
    q_BKGTH, k_BKSH, v_BKSH, sight, out_BKGTH, logsum_BKGT1 = saved
    mean_BKGT1 = jnp.sum(gradient_BKGTH * out_BKGTH, axis=-1, keepdims=True)
    gradient_BKGTH = gradient_BKGTH.astype(v_BKSH.dtype)

    def read(of_q_BKGTH, chunk):
        k_BKCH, v_BKCH, keys, of_k_BKCH, of_v_BKCH = chunk
        scores_BKGTC, may_BKGTC = _scores(q_BKGTH, k_BKCH, sight.of(*keys), how)
        shares_BKGTC = jnp.where(may_BKGTC, jnp.exp(scores_BKGTC - logsum_BKGT1), 0.0)
        of_v_BKCH += attention.product(
            "BKGTC,BKGTH->BKCH", shares_BKGTC.astype(v_BKCH.dtype), gradient_BKGTH
        )
        of_shares_BKGTC = attention.product("BKGTH,BKCH->BKGTC", gradient_BKGTH, v_BKCH)
        of_scores_BKGTC = shares_BKGTC * (of_shares_BKGTC - mean_BKGT1) * how.scale
        if how.cap:
            bent_BKGTC = jnp.where(may_BKGTC, scores_BKGTC / how.cap, 0.0)
            of_scores_BKGTC *= 1 - jnp.square(bent_BKGTC)
        of_scores_BKGTC = of_scores_BKGTC.astype(k_BKCH.dtype)
        of_q_BKGTH += attention.product("BKGTC,BKCH->BKGTH", of_scores_BKGTC, k_BKCH)
        of_k_BKCH += attention.product("BKGTC,BKGTH->BKCH", of_scores_BKGTC, q_BKGTH)
        return of_q_BKGTH, (of_k_BKCH, of_v_BKCH)

    def turn(carry, _):
        of_q_BKGTH, held = carry
        of_q_BKGTH, of_held = jax.lax.scan(read, of_q_BKGTH, _chunks(held, how.chunk))
        held = (*held[:3], *map(_joined, of_held))
        return (of_q_BKGTH, _pass_on(held, how.axis)), None

    zeros = (jnp.zeros(x.shape, jnp.float32) for x in (k_BKSH, v_BKSH))
    held = (k_BKSH, v_BKSH, sight.keys, *zeros)
    of_q_BKGTH = jnp.zeros(q_BKGTH.shape, jnp.float32)
    ways = jax.lax.axis_size(how.axis)
    (of_q_BKGTH, held), _ = jax.lax.scan(turn, (of_q_BKGTH, held), length=ways)
    of_k_BKSH, of_v_BKSH = held[3:]  # home again
    return (
        of_q_BKGTH.astype(q_BKGTH.dtype),
        of_k_BKSH.astype(k_BKSH.dtype),
        of_v_BKSH.astype(v_BKSH.dtype),
        None,
    )


_round.defvjp(_forward, _backward)


def _scores(q_BKGTH, k_BKCH, sight: Sight, how: How) -> tuple[jax.Array, jax.Array]:
    """Scores of a chunk, the lowest where a query may not look, and where it may."""
    scores_BKGTC = attention.product("BKGTH,BKCH->BKGTC", q_BKGTH, k_BKCH) * how.scale
    scores_BKGTC = layers.soft_cap(scores_BKGTC, how.cap)
    may_BKGTC = mask(sight)[:, None, None]
    return jnp.where(may_BKGTC, scores_BKGTC, _LOWEST), may_BKGTC


def _chunks(held: Any, size: int) -> Any:
    """What is held of keys, [chunks, ..., size, ...]."""
    k_BKSH, v_BKSH, (slots_S, segments_BS, positions_BS), *sums = held
    num = slots_S.shape[0] // size

    def cut(x: jax.Array, dim: int) -> jax.Array:
        x = x.reshape(*x.shape[:dim], num, size, *x.shape[dim + 1 :])
        return jnp.moveaxis(x, dim, 0)

    keys = cut(slots_S, 0), cut(segments_BS, 1), cut(positions_BS, 1)
    return (cut(k_BKSH, 2), cut(v_BKSH, 2), keys, *(cut(x, 2) for x in sums))


def _joined(chunks: jax.Array) -> jax.Array:
    """[chunks, B, K, size, H] -> [B, K, S, H]."""
    x = jnp.moveaxis(chunks, 0, 2)
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _pass_on(held: Any, axis: str) -> Any:
    """What the device before holds."""
    ways = jax.lax.axis_size(axis)
    to_next = [(i, (i + 1) % ways) for i in range(ways)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis, to_next), held)
