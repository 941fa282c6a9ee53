"""Advantages by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from genlm.posttrain import advantages

REWARDS = jnp.asarray([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 6.0]])


@pytest.mark.parametrize(
    "baseline, scale, expected",
    [
        ("none", "none", REWARDS),
        ("leave_one_out", "none", [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [-4 / 3] * 3 + [4]]),
        ("group_mean", "none", [[0.5, -0.5, -0.5, 0.5], [-1, -1, -1, 3]]),
        # the standard deviations are 1/2 and √3
        ("group_mean", "group", [[1, -1, -1, 1], [-(3**-0.5)] * 3 + [3**0.5]]),
        ("batch_mean", "none", [[-0.75, -1.75, -1.75, -0.75], [0.25] * 3 + [4.25]]),
    ],
)
def test_of_groups(baseline: str, scale: str, expected):
    found = advantages.of_groups(REWARDS, baseline, scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scaled_by_all():
    found = advantages.of_groups(REWARDS, "batch_mean", "batch")
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-5)


def test_scaled_by_all_rewards_as_they_are():
    """Each group has its own mean, 1/2 and 3, and all have one deviation: the rewards'
    mean is 7/4 and their mean square 50/8. The order of answers makes no difference."""
    deviation = (50 / 8 - (7 / 4) ** 2) ** 0.5
    found = advantages.of_groups(REWARDS, "group_mean", "batch")
    expected = np.asarray([[0.5, -0.5, -0.5, 0.5], [-1, -1, -1, 3]]) / deviation
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    turned = advantages.of_groups(REWARDS[:, ::-1], "group_mean", "batch")
    np.testing.assert_allclose(turned, expected[:, ::-1], rtol=1e-5)


@pytest.mark.parametrize("baseline", ["leave_one_out", "group_mean", "batch_mean"])
@pytest.mark.parametrize("scale", advantages.SCALES)
def test_of_equal_rewards_nothing_is_learnt(baseline: str, scale: str):
    """A third has no exact spelling; its mean over 7 is off in the last digit."""
    rewards = jnp.full((3, 7), 1 / 3)
    assert np.all(advantages.of_groups(rewards, baseline, scale) == 0)


def test_generalised_by_hand():
    """An answer of three tokens with a prompt before it and PAD after it."""
    weights = jnp.asarray([[0.0, 1, 1, 1, 0]])
    rewards = jnp.asarray([[9.0, 0, 0, 1, 9]])
    values = jnp.asarray([[9.0, 0.5, 0.25, 0.75, 9]])
    discount, decay = 0.9, 0.8
    third = 1 - 0.75  # nothing comes after it
    second = 0.9 * 0.75 - 0.25 + 0.72 * third
    first = 0.9 * 0.25 - 0.5 + 0.72 * second
    found, returns = advantages.generalised(rewards, values, weights, discount, decay)
    np.testing.assert_allclose(found, [[0, first, second, third, 0]], rtol=1e-6)
    expected = [[0, first + 0.5, second + 0.25, third + 0.75, 0]]
    np.testing.assert_allclose(returns, expected, rtol=1e-6)


def test_without_decay_it_is_what_comes_less_what_was_expected():
    """λ = 1 and no discount: the sum of all later rewards, less the value."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 6)).astype(np.float32)
    weights = np.ones((3, 6), np.float32)
    found, returns = advantages.generalised(rewards, values, weights, 1.0, 1.0)
    later = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(returns, later, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, later - values, rtol=1e-4, atol=1e-5)


def test_whitened():
    weights = jnp.asarray([[1.0, 1, 0], [1, 1, 0]])
    found = advantages.whitened(jnp.asarray([[1.0, 2, 99], [3, 4, -99]]), weights)
    np.testing.assert_allclose(found[:, 2], 0)
    np.testing.assert_allclose(found[:, :2].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(found[:, :2].std(), 1, rtol=1e-5)
