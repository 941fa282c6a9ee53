"""The loss of a policy, and of its critic, by hand."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.posttrain import critic, policy
from genlm.posttrain.policy import PolicyConfig
from genlm.train import state as states
from tests.posttrain.world import RLOO

CONFIG = PolicyConfig(**RLOO)
WEIGHTS = jnp.asarray([[0.0, 1, 1, 0], [0, 1, 1, 1]])


def _config(**changes: Any) -> PolicyConfig:
    return dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    "estimator, expected",
    [("k1", math.log(2)), ("k2", math.log(2) ** 2 / 2), ("k3", math.log(2) - 0.5)],
)
def test_divergence_by_hand(estimator: str, expected: float):
    """The policy gives what the reference gives half as much: r = 1/2."""
    found = policy.divergence(jnp.log(0.4), jnp.log(0.2), estimator)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_two_estimators_have_the_divergence_as_their_mean(estimator: str):
    p, q = np.asarray([0.5, 0.3, 0.2]), np.asarray([0.2, 0.2, 0.6])
    terms = policy.divergence(jnp.log(p), jnp.log(q), estimator)
    np.testing.assert_allclose(np.sum(p * terms), np.sum(p * np.log(p / q)), rtol=1e-5)


def _batch(advantages: Any, ratios: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """New log-probabilities, and a batch of which the old give these ratios."""
    new = jnp.full((2, 4), -1.0)
    return new, {
        "weights": WEIGHTS,
        "logprobs": new - jnp.log(jnp.asarray(ratios)),
        "advantages": jnp.asarray(advantages)[:, None] * WEIGHTS,
    }


def test_clipped_by_hand():
    """A ratio past the bound counts where that is worse alone."""
    new, batch = _batch([1.0, -1.0], [[1, 0.5, 1.5, 1], [1, 0.5, 1.5, 1.0]])
    terms, clipped = policy.clipped_terms(new, batch, _config())
    np.testing.assert_allclose(terms[0, 1:3], [-0.5, -1.2], rtol=1e-6)
    np.testing.assert_allclose(terms[1, 1:], [0.8, 1.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(clipped[:, 1:3], [[0, 1], [1, 0]])
    higher = policy.clipped_terms(new, batch, _config(clip_high=0.4))[0]
    np.testing.assert_allclose(higher[0, 2], -1.4, rtol=1e-6)


def test_a_sequence_has_one_ratio():
    """The geometric mean over its tokens, and a gradient for each of them."""
    new, batch = _batch([1.0, 1.0], [[7, 1.2, 0.9, 7], [7, 1.1, 1.1, 0.9]])
    config = _config(ratio="sequence")
    terms, _ = policy.clipped_terms(new, batch, config)
    expected = [(1.2 * 0.9) ** (1 / 2), (1.1 * 1.1 * 0.9) ** (1 / 3)]
    np.testing.assert_allclose(terms[0, 1:3], -expected[0], rtol=1e-5)
    np.testing.assert_allclose(terms[1, 1:], -expected[1], rtol=1e-5)

    def loss(new):
        share, weight = policy.shares(WEIGHTS, "sequence")
        return jnp.sum(policy.clipped_terms(new, batch, config)[0] * share) / weight

    gradient = jax.grad(loss)(new)
    by_hand = -np.asarray(expected)[:, None] * WEIGHTS / WEIGHTS.sum(1)[:, None] / 2
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    "average, expected",
    [("token", 9 / 5), ("sequence", (1 + 7 / 3) / 2), ("sum", 9 / 2)],
)
def test_averages_by_hand(average: str, expected: float):
    """The tokens of one answer are 1, 1, of the other 3, 3, 1."""
    values = jnp.asarray([[9.0, 1, 1, 9], [9, 3, 3, 1]])
    share, weight = policy.shares(WEIGHTS, average)
    np.testing.assert_allclose(jnp.sum(values * share) / weight, expected, rtol=1e-6)


@pytest.mark.parametrize("kl, factor", [(0.5, 1.0), (0.55, 1.01), (9, 1.02), (0, 0.98)])
def test_beta_goes_after_the_target(kl: float, factor: float):
    """A tenth of what the divergence is off, and a fiftieth at most."""
    config = _config(kl="reward", estimator="k1", target=0.5)
    state = states.TrainState(0, {}, {}, None, extra={"beta": config.beta})

    def train_step(state, batch, frozen):
        return state, {"kl": jnp.float32(kl)}

    after, metrics = policy.steered(train_step, config)(state, {})
    assert metrics["beta"] == config.beta
    np.testing.assert_allclose(after.extra["beta"], config.beta * factor, rtol=1e-6)


def test_the_reward_is_read_at_the_last_token():
    batch = {
        "weights": WEIGHTS,
        "logprobs": jnp.full((2, 4), -1.0),
        "reference": jnp.full((2, 4), -1.5),
    }
    plain = policy.rewarded(_config(), batch, jnp.asarray([2.0, 3.0]), 9.0)
    np.testing.assert_allclose(plain, [[0, 0, 2, 0], [0, 0, 0, 3]])
    config = _config(kl="reward", estimator="k1")
    less = policy.rewarded(config, batch, jnp.asarray([2.0, 3.0]), config.beta)
    taken = -0.25 * np.asarray(WEIGHTS)  # beta times half a nat
    np.testing.assert_allclose(less, plain + taken, rtol=1e-6)


def test_errors_of_values_by_hand():
    """A value that moved further than the clip counts as it was held, if worse."""
    batch = {"returns": jnp.asarray([1.0, 1.0]), "values": jnp.asarray([0.0, 0.0])}
    found = critic.value_errors(jnp.asarray([0.5, 0.5]), batch, clip=0.2)
    np.testing.assert_allclose(found, 0.5 * 0.8**2)
    np.testing.assert_allclose(
        critic.value_errors(jnp.asarray([0.5, 2.0]), batch, clip=0.0), [0.125, 0.5]
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"baseline": "mean"}, "policy.baseline"),
        ({"estimator": "k1"}, "no gradient"),
        ({"kl": "none"}, "policy.beta"),
        ({"beta": 0.0}, "policy.beta"),
        ({"clip_low": 1.5}, "clip_low"),
    ],
)
def test_what_makes_no_sense_is_said(changes: dict, words: str):
    with pytest.raises(UserError, match=words):
        _config(**changes)
