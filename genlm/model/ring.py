"""RING ATTENTION: each device holds a stretch of every row, and keys come round.

Before: attention, where a row's length is split over devices. Keys and values pass
from device to device (arXiv:2310.01889) and are read a chunk at a time with a running
softmax (arXiv:1805.02867), so that no device ever holds all keys or all scores; the
gradient goes round once more and computes the scores again (algorithm 4 of
arXiv:2205.14135). Slots, segments and positions are small, and gathered once; so are
short rows' keys: one message in place of many.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from genlm.model import attention, kernels, layers
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
    q_at, k_at = kernels.places(q_BTNH, k_BTKH, "length")
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
    kv_2BTKH = jnp.stack([k_BTKH, v_BTKH])
    k_BSKH, v_BSKH = jax.lax.all_gather(kv_2BTKH, how.axis, axis=2, tiled=True)
    sight = _of_all(sight, how.axis)
    return attention.attend(
        q_BTNH,
        k_BSKH,
        v_BSKH,
        sight,
        mask(sight),
        causal_square=False,
        scale=how.scale,
        cap=how.cap,
    )


def _of_all(sight: Sight, axis: str) -> Sight:
    """These queries' sight of the whole rows' keys."""
    whole = functools.partial(jax.lax.all_gather, axis_name=axis, tiled=True)
    slots_S, segments_BS, positions_BS = sight.keys
    return sight.of(
        whole(slots_S), whole(segments_BS, axis=1), whole(positions_BS, axis=1)
    )


def _ring(how: How, q_BTNH, k_BTKH, v_BTKH, sight: Sight) -> jax.Array:
    """Of this device's queries and the keys that come round."""
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    q_BKGTH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    kv_2BKSH = jnp.stack([k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)])
    out_BKGTH = _round(q_BKGTH, kv_2BKSH, _of_all(sight, how.axis), how)
    out_BTNH = out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(q_BTNH.shape)
    return out_BTNH.astype(q_BTNH.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _round(q_BKGTH, kv_2BKSH, sight: Sight, how: How) -> jax.Array:
    """out_BKGTH, float32."""
    return _forward(q_BKGTH, kv_2BKSH, sight, how)[0]


def _forward(q_BKGTH, kv_2BKSH, sight: Sight, how: How):
    nothing = (
        jnp.zeros(q_BKGTH.shape, jnp.float32),
        jnp.full((*q_BKGTH.shape[:-1], 1), _LOWEST),
        jnp.zeros((*q_BKGTH.shape[:-1], 1), jnp.float32),
    )

    def read(seen, chunk):
        """A chunk of keys more."""
        out_BKGTH, highest_BKGT1, total_BKGT1 = seen
        (k_BKCH, v_BKCH), keys = chunk
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

    def turn(carry, number):
        seen, held_2BKSH = carry
        chunks = _chunks(held_2BKSH, how.chunk), _keys(sight, number, how)
        seen, _ = jax.lax.scan(read, seen, chunks)
        return (seen, _pass_on(held_2BKSH, how.axis)), None

    turns = jnp.arange(jax.lax.axis_size(how.axis))
    (seen, _), _ = jax.lax.scan(turn, (nothing, kv_2BKSH), turns)
    out_BKGTH, highest_BKGT1, total_BKGT1 = seen
    out_BKGTH = out_BKGTH / total_BKGT1
    logsum_BKGT1 = highest_BKGT1 + jnp.log(total_BKGT1)
    return out_BKGTH, (q_BKGTH, kv_2BKSH, sight, out_BKGTH, logsum_BKGT1)


def _backward(how: How, saved, gradient_BKGTH):
    q_BKGTH, kv_2BKSH, sight, out_BKGTH, logsum_BKGT1 = saved
    mean_BKGT1 = jnp.sum(gradient_BKGTH * out_BKGTH, axis=-1, keepdims=True)
    gradient_BKGTH = gradient_BKGTH.astype(kv_2BKSH.dtype)

    def read(of_q_BKGTH, chunk):
        (k_BKCH, v_BKCH), keys, (of_k_BKCH, of_v_BKCH) = chunk
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
        return of_q_BKGTH, jnp.stack([of_k_BKCH, of_v_BKCH])

    def turn(carry, number):
        of_q_BKGTH, held_2BKSH, of_held_2BKSH = carry
        chunks = (
            _chunks(held_2BKSH, how.chunk),
            _keys(sight, number, how),
            _chunks(of_held_2BKSH, how.chunk),
        )
        of_q_BKGTH, of_chunks = jax.lax.scan(read, of_q_BKGTH, chunks)
        held_2BKSH = _pass_on(held_2BKSH, how.axis)
        return (of_q_BKGTH, held_2BKSH, _pass_on(_joined(of_chunks), how.axis)), None

    turns = jnp.arange(jax.lax.axis_size(how.axis))
    of_q_BKGTH = jnp.zeros(q_BKGTH.shape, jnp.float32)
    of_kv_2BKSH = jnp.zeros(kv_2BKSH.shape, jnp.float32)
    carry = (of_q_BKGTH, kv_2BKSH, of_kv_2BKSH)
    (of_q_BKGTH, _, of_kv_2BKSH), _ = jax.lax.scan(turn, carry, turns)  # home again
    return of_q_BKGTH.astype(q_BKGTH.dtype), of_kv_2BKSH.astype(kv_2BKSH.dtype), None


_round.defvjp(_forward, _backward)


def _scores(q_BKGTH, k_BKCH, sight: Sight, how: How) -> tuple[jax.Array, jax.Array]:
    """Scores of a chunk, the lowest where a query may not look, and where it may."""
    scores_BKGTC = attention.product("BKGTH,BKCH->BKGTC", q_BKGTH, k_BKCH) * how.scale
    scores_BKGTC = layers.soft_cap(scores_BKGTC, how.cap)
    may_BKGTC = mask(sight)[:, None, None]
    return jnp.where(may_BKGTC, scores_BKGTC, _LOWEST), may_BKGTC


def _chunks(x_2BKSH: jax.Array, size: int) -> jax.Array:
    """Of what goes round: [2, B, K, S, H] -> [chunks, 2, B, K, size, H]."""
    x = x_2BKSH.reshape(*x_2BKSH.shape[:3], -1, size, x_2BKSH.shape[-1])
    return jnp.moveaxis(x, 3, 0)


def _joined(chunks: jax.Array) -> jax.Array:
    """[chunks, 2, B, K, size, H] -> [2, B, K, S, H]."""
    x = jnp.moveaxis(chunks, 0, 3)
    return x.reshape(*x.shape[:3], -1, x.shape[-1])


def _keys(sight: Sight, turn: jax.Array, how: How) -> tuple[jax.Array, ...]:
    """Slots, segments and positions of what is held at a turn, in chunks."""
    ways = jax.lax.axis_size(how.axis)
    owner = (jax.lax.axis_index(how.axis) - turn) % ways

    def of(x: jax.Array) -> jax.Array:
        """[..., all keys] -> [chunks, ..., size]."""
        x = x.reshape(*x.shape[:-1], ways, -1, how.chunk)
        held = jax.lax.dynamic_index_in_dim(x, owner, x.ndim - 3, keepdims=False)
        return jnp.moveaxis(held, -2, 0)

    slots_S, segments_BS, positions_BS = sight.keys
    return of(slots_S), of(segments_BS), of(positions_BS)


def _pass_on(x: jax.Array, axis: str) -> jax.Array:
    """What the device before holds."""
    ways = jax.lax.axis_size(axis)
    return jax.lax.ppermute(x, axis, [(i, (i + 1) % ways) for i in range(ways)])
