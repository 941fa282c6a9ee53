"""Losses of preference by hand, at their beginning and against numerical gradients."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.posttrain import dpo, online, reward
from genlm.posttrain.dpo import DpoConfig

PLAIN = {"beta": 0.1, "smoothing": 0.0, "gamma": 0.5, "good": 1.0, "bad": 1.0}
LOGPS = jnp.asarray([[-12.0, -15.0], [-20.0, -8.0]])
REFERENCE = jnp.asarray([[-13.0, -14.0], [-18.0, -9.0]])
LENGTHS = jnp.asarray([[4.0, 5.0], [10.0, 2.0]])


def _loss(kind: str, **changes: Any) -> np.ndarray:
    config = DpoConfig(kind, **(PLAIN | changes))
    return np.asarray(dpo.losses_of(LOGPS, REFERENCE, LENGTHS, config)[0])


def _softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_dpo_by_hand():
    # the better gained 1 and lost 1: by 2 ahead; then lost 2 where the other gained 1
    expected = [_softplus(-0.2), _softplus(0.3)]
    np.testing.assert_allclose(_loss("dpo"), expected, rtol=1e-6)
    smooth = [0.9 * _softplus(-0.2) + 0.1 * _softplus(0.2)]
    np.testing.assert_allclose(_loss("dpo", smoothing=0.1)[:1], smooth, rtol=1e-6)


def test_dpo_begins_at_log_two():
    config = DpoConfig("dpo", **PLAIN)
    found, rewards = dpo.losses_of(REFERENCE, REFERENCE, LENGTHS, config)
    np.testing.assert_allclose(found, math.log(2), rtol=1e-6)
    assert np.all(rewards == 0)


def test_ipo_by_hand():
    # a token, the better gained 1/4 and the worse lost 1/5
    np.testing.assert_allclose(_loss("ipo")[0], (0.45 - 5) ** 2, rtol=1e-5)


def test_simpo_by_hand():
    # a token, both are at -3
    np.testing.assert_allclose(_loss("simpo")[0], _softplus(0.5), rtol=1e-5)


def test_orpo_by_hand():
    better = worse = math.exp(-3)
    odds = math.log(better / (1 - better)) - math.log(worse / (1 - worse))
    np.testing.assert_allclose(_loss("orpo")[0], 3 + 0.1 * _softplus(-odds), rtol=1e-5)


def test_kto_by_hand():
    """Answers to other prompts gained 0.4 and 0.2, so the policy has gone 0.3 far."""
    gained = jnp.asarray([[1.0, -2.0, 0.4, 0.2], [3.0, 0.0, 0.0, 0.0]])
    ranks = jnp.asarray([[1, 2, 0, 0], [2, 0, 0, 0]])
    config = DpoConfig("kto", **(PLAIN | {"beta": 0.5, "bad": 2.0}))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    good, bad = 1 - sigmoid(0.5 * 0.7), 1 - sigmoid(0.5 * 2.3)
    alone = 2 * (1 - sigmoid(0.5 * (0.3 - 3)))
    found, rewards = dpo.kto(gained, ranks, config)
    np.testing.assert_allclose(found, [(good + 2 * bad) / 2, alone], rtol=1e-5)
    np.testing.assert_allclose(rewards, [[0.5, -1.0], [0.0, 1.5]], rtol=1e-6)


def test_pairs_of_a_group_by_hand():
    """Of three answers three pairs; two have the same reward, and are to stay alike."""
    gained = jnp.asarray([[0.4, 0.0, -0.2], [0.0, 0.0, 0.0]])
    rewards = jnp.asarray([[1.0, 1.0, 0.0], [0.3, 0.3, 0.3]])
    loss, right, margin = online.pairs(gained, rewards, beta=0.5)
    sure = 1 / (1 + math.exp(-1.0))  # that the first is better than the third

    def of_pair(ahead: float, wins: float) -> float:
        up = -math.log(1 / (1 + math.exp(-ahead)))
        return wins * up + (1 - wins) * (up + ahead)

    by_hand = [of_pair(0.2, 0.5), of_pair(0.3, sure), of_pair(0.1, sure)]
    np.testing.assert_allclose(loss, [np.mean(by_hand), math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(right, [1.0, 0.0])
    np.testing.assert_allclose(margin, [(0.3 + 0.1) / 2, 0.0], rtol=1e-6)
    slope = jax.grad(lambda g: online.pairs(g, rewards, 0.5)[0].sum())(gained)
    np.testing.assert_allclose(slope[1], 0.0)  # equal rewards, and nothing gained


def test_two_answers_are_bradley_and_terrys():
    scores = jnp.asarray([[1.5, 0.5], [0.0, 2.0]])
    found = reward.ranking_loss(scores, jnp.asarray([[1, 2], [1, 2]]))
    np.testing.assert_allclose(found, [_softplus(-1), _softplus(2)], rtol=1e-6)
    backwards = reward.ranking_loss(scores, jnp.asarray([[2, 1], [2, 1]]))
    np.testing.assert_allclose(backwards, [_softplus(1), _softplus(-2)], rtol=1e-6)


def test_a_margin_is_what_the_better_must_be_ahead():
    margins = jnp.full((1, 2, 2), 0.25)
    found = reward.ranking_loss(
        jnp.asarray([[1.5, 0.5]]), jnp.asarray([[1, 2]]), margins
    )
    np.testing.assert_allclose(found, _softplus(-0.75), rtol=1e-6)


def test_rankings_have_plackett_and_luces_probabilities():
    """Those of all orders add up to 1, and each is the product of its choices."""
    scores = np.asarray([0.3, -1.0, 2.0, 0.5])
    total = 0.0
    for order in itertools.permutations(range(4)):
        ranks = np.empty(4, int)
        ranks[list(order)] = np.arange(1, 5)
        left, chance = np.exp(scores[list(order)]), 1.0
        for place in range(4):
            chance *= left[place] / left[place:].sum()
        loss = reward.ranking_loss(jnp.asarray([scores]), jnp.asarray([ranks]))
        np.testing.assert_allclose(np.exp(-loss[0]), chance, rtol=1e-5)
        total += float(np.exp(-loss[0]))
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_ties_and_answers_that_are_not_there():
    """What ties is not compared; a row may have fewer answers than others."""
    scores = jnp.asarray([[1.0, 0.0, 5.0], [1.0, 0.0, 5.0], [2.0, 2.0, 2.0]])
    ranks = jnp.asarray([[1, 2, 0], [1, 2, 2], [1, 1, 1]])
    found = reward.ranking_loss(scores, ranks)
    three = math.log((math.e + 1 + math.exp(5)) / math.e)
    np.testing.assert_allclose(found, [_softplus(-1), three, 0.0], rtol=1e-5)
    gradient = jax.grad(lambda s: jnp.sum(reward.ranking_loss(s, ranks)))(scores)
    assert np.isfinite(gradient).all() and np.all(np.asarray(gradient)[2] == 0)
    right, is_ordered = reward.accuracy(scores, ranks)
    np.testing.assert_allclose(right, [1.0, 0.5, 0.0])
    np.testing.assert_allclose(is_ordered, [1.0, 1.0, 0.0])


@pytest.mark.parametrize("kind", ["dpo", "ipo", "orpo", "simpo"])
def test_a_step_downhill_prefers_the_better(kind: str):
    config = DpoConfig(kind, **PLAIN)

    def loss(logps):
        return jnp.sum(dpo.losses_of(logps, REFERENCE, LENGTHS, config)[0])

    gradient = jax.grad(loss)(LOGPS)
    assert np.all(gradient[:, 0] < 0) and np.all(gradient[:, 1] > 0)
