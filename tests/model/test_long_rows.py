"""Attention of long rows, against the plain formula: keys that come round, and the
kernel of TPUs in its interpreter."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import layers, ring, splash
from genlm.model.sight import Sight, mask
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding

B, N, H = 2, 4, 8
ROUNDS = [(0, 1, 9, 2.0), (1000, 4, 1000, 0.0)]  # the others are slow tests


def sight(length: int, window: int) -> Sight:
    """Rows of three documents, the last of PAD."""
    slots_T = jnp.arange(length)
    cuts_B1 = np.array([[length // 3], [length // 2]])
    ends_B1 = np.array([[length], [length - 3]])
    first_BT = np.arange(length)[None] < cuts_B1
    segments_BT = np.where(first_BT, 1, 2) * (np.arange(length)[None] < ends_B1)
    positions_BT = np.where(first_BT, slots_T, slots_T - cuts_B1)
    segments_BT, positions_BT = map(jnp.asarray, (segments_BT, positions_BT))
    both = segments_BT, segments_BT, positions_BT, positions_BT
    return Sight(slots_T, slots_T, *both, window)


def plain(q_BTNH, k_BSKH, v_BSKH, seen: Sight, cap: float):
    """Every score at once, in float32."""
    groups = q_BTNH.shape[2] // k_BSKH.shape[2]
    k_BSNH, v_BSNH = (jnp.repeat(x, groups, axis=2) for x in (k_BSKH, v_BSKH))
    scores_BNTS = jnp.einsum("BTNH,BSNH->BNTS", q_BTNH, k_BSNH) * H**-0.5
    scores_BNTS = layers.soft_cap(scores_BNTS, cap)
    scores_BNTS = jnp.where(mask(seen)[:, None], scores_BNTS, -1e30)
    return jnp.einsum("BNTS,BSNH->BTNH", jax.nn.softmax(scores_BNTS), v_BSNH)


def gradients(attend, length: int, kv_heads: int, seen: Sight):
    """The output at what is no PAD, and the gradients of queries, keys and values."""
    shapes = [(B, length, heads, H) for heads in (N, kv_heads, kv_heads, N)]
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    *sides, aim = (jax.random.normal(k, s) for k, s in zip(keys, shapes))
    real_BT = (seen.query_segments_BT > 0)[..., None, None]

    @jax.jit
    def loss(q, k, v):
        out = jnp.where(real_BT, attend(q, k, v), 0.0)
        return jnp.sum(out * aim), out

    return jax.grad(loss, (0, 1, 2), has_aux=True)(*sides)


@pytest.mark.parametrize(
    "gathered, kv_heads, window, cap",
    [
        case if case in ROUNDS else pytest.param(*case, marks=pytest.mark.slow)
        for case in itertools.product((0, 1000), (1, 4), (1000, 9), (0.0, 2.0))
    ],
)
def test_keys_that_come_round(
    gathered: int, kv_heads: int, window: int, cap: float, monkeypatch
):
    monkeypatch.setattr(ring, "GATHERED", gathered)
    monkeypatch.setattr(ring, "CHUNK", 4)
    seen = sight(32, window)
    sizes = {"data": 1, "fsdp": 2, "context": 4}
    mesh = meshes.make(meshes.MeshConfig(**sizes), jax.devices()[:8])
    ours = functools.partial(
        ring.attend, sight=seen, axis="context", scale=H**-0.5, cap=cap
    )
    with sharding.laid_out(mesh):
        found = gradients(ours, 32, kv_heads, seen)
    expected = gradients(lambda q, k, v: plain(q, k, v, seen, cap), 32, kv_heads, seen)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=2e-6), found, expected
    )


@pytest.mark.parametrize(
    "kv_heads, window, cap",
    [
        (2, 100, 0.0),
        pytest.param(4, 1000, 0.0, marks=pytest.mark.slow),
        pytest.param(1, 1000, 2.0, marks=pytest.mark.slow),
    ],
)
def test_the_kernel_of_tpus(kv_heads: int, window: int, cap: float):
    """In Pallas's interpreter; two blocks of queries and of keys."""
    seen = sight(256, window)
    ours = functools.partial(
        splash.attend,
        segments_BT=seen.query_segments_BT,
        window=window,
        scale=H**-0.5,
        cap=cap,
        interpret=True,
    )
    found = gradients(ours, 256, kv_heads, seen)
    expected = gradients(lambda q, k, v: plain(q, k, v, seen, cap), 256, kv_heads, seen)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=2e-5), found, expected
    )
