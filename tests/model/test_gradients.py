"""The gradients that are written by hand are those of the plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import attention, kernels, layers


def plain_attention(q_BTNH, k_BSKH, v_BSKH, mask_BTS):
    """softmax(q kᵀ / √H) v, every score at once."""
    groups = q_BTNH.shape[2] // k_BSKH.shape[2]
    k_BSNH, v_BSNH = (jnp.repeat(x, groups, axis=2) for x in (k_BSKH, v_BSKH))
    scores_BNTS = jnp.einsum("BTNH,BSNH->BNTS", q_BTNH, k_BSNH)
    scores_BNTS = scores_BNTS / q_BTNH.shape[-1] ** 0.5
    scores_BNTS = jnp.where(mask_BTS[:, None], scores_BNTS, -1e30)
    weights_BNTS = jax.nn.softmax(scores_BNTS)
    return jnp.einsum("BNTS,BSNH->BTNH", weights_BNTS, v_BSNH)


def heads(length: int, num: int, key: int) -> jax.Array:
    return jax.random.normal(jax.random.PRNGKey(key), (3, length, num, 8))


def assert_close(tree, expected, share: float):
    """Each array differs from what is expected by less than `share` of its length."""
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        assert np.linalg.norm(x - y) < share * np.linalg.norm(y)


@pytest.mark.parametrize("dtype, share", [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("length", [5, 64, 128, 256])  # from 128 on in blocks
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_attention(
    length: int, kv_heads: int, dtype: str, share: float, platform: str, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(kernels, "cudnn_fits", lambda q, k: False)  # it is not here
    segments_BT = np.random.default_rng(0).integers(1, 3, (3, length)).cumsum(axis=1)
    same_BTS = segments_BT[:, :, None] // 40 == segments_BT[:, None] // 40
    mask_BTS = jnp.asarray(same_BTS & np.tri(length, dtype=bool))
    sides = heads(length, 4, 0), heads(length, kv_heads, 1), heads(length, kv_heads, 2)
    aim = heads(length, 4, 3)

    @jax.jit
    def ours(q, k, v):
        sides = [x.astype(dtype) for x in (q, k, v)]
        out = attention.attend(
            *sides,
            None,
            mask_BTS,
            causal_square=True,
            scale=sides[0].shape[-1] ** -0.5,
        )
        return jnp.sum(out.astype(jnp.float32) * aim), out

    def plain(q, k, v):
        out = plain_attention(q, k, v, mask_BTS)
        return jnp.sum(out * aim), out

    results = (jax.grad(f, (0, 1, 2), has_aux=True)(*sides) for f in (ours, plain))
    assert_close(*results, share)


@pytest.mark.parametrize("dtype, share", [("float32", 1e-5), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("dims", ["KN", "NK"])
@pytest.mark.parametrize("mapped", [False, True])
def test_matmul(dims: str, mapped: bool, dtype: str, share: float):
    x_AMK = jax.random.normal(jax.random.PRNGKey(0), (2, 48, 16))
    w = jax.random.normal(jax.random.PRNGKey(1), (16, 24) if dims == "KN" else (24, 16))
    aim_AMN = jax.random.normal(jax.random.PRNGKey(2), (2, 48, 24))

    def gradients(multiply):
        @jax.jit
        def of_rows(x_MK, aim_MN):
            return jax.grad(lambda *xs: jnp.sum(multiply(*xs) * aim_MN), (0, 1))(
                x_MK, w
            )

        if mapped:
            return jax.vmap(of_rows)(x_AMK, aim_AMN)
        return of_rows(x_AMK[0], aim_AMN[0])

    ours = gradients(lambda x_MK, w: layers.matmul(x_MK, w, dtype, dims))
    plain = gradients(lambda x_MK, w: x_MK @ (w if dims == "KN" else w.T))
    assert_close(ours, plain, share)


def test_a_number_that_is_none_stays_one():
    x_MK = jnp.full((4, 4), jnp.nan, jnp.bfloat16)
    w_KN = jnp.ones((4, 4))
    of_w = jax.grad(lambda w: jnp.sum(layers.matmul(x_MK, w, "bfloat16")))(w_KN)
    assert np.all(np.isnan(of_w))
