"""Layers: small cases by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.model import layers, transformer
from tests.laws.families import BASE, FAMILIES, alone, inputs, weights


def test_dense_casts_its_operands_and_sums_in_float32():
    x, w = jnp.full((1, 1, 1024), 1 + 2**-10), jnp.ones((1024, 2))
    exact = layers.dense(x, w, "float32")
    np.testing.assert_array_equal(exact, np.full((1, 1, 2), 1025.0))
    cast = layers.dense(x, w, "bfloat16")  # 1 + 2⁻¹⁰ becomes 1
    np.testing.assert_array_equal(
        np.asarray(cast, np.float32), np.full((1, 1, 2), 1024.0)
    )
    many = layers.dense(jnp.ones((1, 1, 1001)), jnp.ones((1001, 1)), "bfloat16")
    assert abs(float(many[0, 0, 0]) - 1001) <= 2  # a sum in bfloat16 stops at 256


def test_rms_norm():
    x, scale_D = jnp.asarray([3.0, -4.0]), jnp.asarray([1.0, 2.0])
    rms = math.sqrt((9 + 16) / 2)
    np.testing.assert_allclose(
        layers.rms_norm(x, scale_D, eps=0.0), [3 / rms, -8 / rms], rtol=1e-6
    )
    assert np.all(np.isfinite(layers.rms_norm(jnp.zeros(2), scale_D, eps=1e-5)))
    normed = layers.rms_norm(x.astype(jnp.bfloat16), scale_D, eps=0.0)
    assert normed.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "activation, expected",
    [
        ("swiglu", 3 * 2 / (1 + math.exp(-2))),
        ("geglu", 3 * 1.954597694),  # gelu(2) is 2 · 0.977298847
        ("gelu", 2.996362607),  # gelu(3), in its tanh form
        ("relu2", 9.0),
    ],
)
def test_activations(activation: str, expected: float):
    gated = activation in layers.GATED
    out = layers.activate(
        jnp.asarray(3.0), jnp.asarray(2.0) if gated else None, activation
    )
    assert math.isclose(out, expected, rel_tol=1e-5)


def test_a_negative_number_through_each_activation():
    x = jnp.asarray(-3.0)
    assert layers.activate(x, None, "relu2") == 0
    assert -0.01 < layers.activate(x, None, "gelu") < 0
    assert layers.activate(x, jnp.asarray(0.0), "swiglu") == 0


def test_dropout_keeps_the_mean_and_needs_a_key():
    x = jnp.ones(10_000)
    np.testing.assert_array_equal(layers.dropout(x, 0.3, None), x)
    np.testing.assert_array_equal(layers.dropout(x, 0.0, jax.random.PRNGKey(0)), x)
    dropped = np.asarray(layers.dropout(x, 0.3, jax.random.PRNGKey(0)))
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.7], rtol=1e-6)
    assert abs(np.mean(dropped) - 1) < 0.03


@pytest.mark.parametrize(
    "wrong",
    [
        {"activation": "swish"},
        {"remat": "some"},
        {"dtype": "float16"},
        {"num_kv_heads": 3},
        {"num_kv_heads": 0},
        {"head_dim": 7},
        {"dropout": 1.0},
        {"embedding_noise": -1.0},
    ],
)
def test_a_shape_that_cannot_be_is_said(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"model.*{name}"):
        type(BASE)(**{**vars(BASE), **wrong})


def test_noise_is_as_large_as_the_documents_are_short():
    """NEFTune: within alpha / √(tokens · width), and as wide as a uniform one is."""
    segments_BT = np.array([[1] * 4 + [2] * 9 + [0] * 3, [1] * 16])
    noise_BTD = np.asarray(
        layers.embedding_noise(segments_BT, 4096, 5.0, jax.random.PRNGKey(0))
    )
    for row, segment, tokens in [(0, 1, 4), (0, 2, 9), (1, 1, 16)]:
        own = noise_BTD[row, segments_BT[row] == segment]
        bound = 5.0 / np.sqrt(tokens * 4096)
        assert 0.999 * bound < np.abs(own).max() <= bound
        assert own.std() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert abs(own.mean()) < 0.02 * bound
    assert not noise_BTD[segments_BT == 0].any()


@pytest.mark.slow
def test_noise_is_on_the_embeddings_and_needs_a_key():
    config = dataclasses.replace(FAMILIES["gemma2"], embedding_noise=5.0)
    batch = inputs(alone([np.arange(9)], 9))
    blank = jax.tree.map(jnp.zeros_like, weights(config))

    def read(config, key):
        hidden, _, _ = transformer.apply(blank, batch, config, key=key)
        return np.asarray(hidden)

    key = jax.random.PRNGKey(0)
    assert not read(config, None).any() and not read(config.without_chance, key).any()
    noisy = read(config, key)
    assert noisy.any() and np.any(noisy != read(config, jax.random.PRNGKey(1)))
