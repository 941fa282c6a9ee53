"""The optimum law: where each way of learning ends, beside where theory says it does.

The reward of an answer less beta times the divergence from a reference is largest for
π* ∝ π_ref · exp(r / β). On-policy learning with an unbiased gradient of that ends
there; each choice that bends the gradient ends at a fixed point of its own.
"""

from typing import Callable

import numpy as np
import pytest

from genlm.posttrain.online import OnlineConfig
from tests.posttrain import world as worlds
from tests.posttrain.world import World

BETA = 0.5
REWARDS = [0.0, 0.3, 1.0, -0.5, 0.2, 0.8, -1.0, 0.5]
NEAR = 0.02  # total variation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> World:
    return worlds.make(REWARDS)


def tilted(reference: np.ndarray, rewards: np.ndarray, beta: float) -> np.ndarray:
    """π ∝ π_ref · exp(r / β)."""
    logits = np.log(reference) + rewards / beta
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def settled(reference: np.ndarray, step: Callable[[np.ndarray], np.ndarray]):
    """The fixed point π = step(π), with half a step at a time."""
    found = reference
    for _ in range(2000):
        found = 0.9 * found + 0.1 * step(found)
    return found


@pytest.mark.parametrize(
    "changes, with_critic",
    [
        ({"kl": "reward", "estimator": "k1"}, False),
        ({"kl": "loss", "estimator": "k2"}, False),
        ({"kl": "reward", "estimator": "k1", "baseline": "none"}, True),
        # where the divergence is in the reward, nothing is left to scale there
        ({"kl": "reward", "estimator": "k1", "baseline": "group_mean"}, False),
    ],
    ids=["RLOO, k1 in the reward", "RLOO, k2 in the loss", "PPO", "group mean"],
)
def test_it_is_the_optimum(world: World, changes: dict, with_critic: bool):
    found = worlds.learnt(world, changes, with_critic=with_critic)
    optimum = tilted(world.reference, world.rewards, BETA)
    assert worlds.apart(world.reference, optimum) > 0.2  # there is a way to go
    assert worlds.apart(found, optimum) < NEAR


def test_pairs_of_its_own_answers(world: World):
    """Online DPO, beside a judge as Bradley and Terry have it."""
    found = worlds.learnt(world, {}, online=OnlineConfig(BETA))
    optimum = tilted(world.reference, world.rewards, BETA)
    assert worlds.apart(found, optimum) < NEAR


def test_k3_in_the_loss(world: World):
    """Its gradient is that of KL(π_ref | π): π = β π_ref / (λ - r)."""
    found = worlds.learnt(world, {"kl": "loss", "estimator": "k3"})
    low, high = world.rewards.max() + 1e-6, world.rewards.max() + 10.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        total = np.sum(BETA * world.reference / (middle - world.rewards))
        low, high = (middle, high) if total > 1 else (low, middle)
    own = BETA * world.reference / (low - world.rewards)
    assert worlds.apart(own, tilted(world.reference, world.rewards, BETA)) > 0.05
    assert worlds.apart(found, own) < NEAR


def test_a_mean_with_the_answer_itself(world: World):
    """Beside a divergence in the loss, (K - 1) / K of the reward is left."""
    found = worlds.learnt(world, {"baseline": "group_mean"}, answers=2, prompts=1024)
    own = tilted(world.reference, world.rewards, 2 * BETA)
    assert worlds.apart(own, tilted(world.reference, world.rewards, BETA)) > 0.05
    assert worlds.apart(found, own) < NEAR


def test_divided_by_the_standard_deviation_of_two(world: World):
    """Of two answers the better has advantage 1, the worse -1, whatever the rewards:
    what counts is how often an answer is the better one."""
    sign = np.sign(world.rewards[:, None] - world.rewards[None, :])
    own = settled(
        world.reference, lambda found: tilted(world.reference, sign @ found, BETA)
    )
    assert worlds.apart(own, tilted(world.reference, world.rewards, BETA)) > 0.05
    changes = {"baseline": "group_mean", "scale": "group"}
    found = worlds.learnt(world, changes, answers=2, prompts=1024)
    assert worlds.apart(found, own) < NEAR


def test_divided_by_the_standard_deviation_of_all(world: World):
    """β counts as many times as the rewards' spread under the policy itself."""

    def step(found: np.ndarray) -> np.ndarray:
        mean = np.sum(found * world.rewards)
        spread = np.sqrt(np.sum(found * np.square(world.rewards - mean)))
        return tilted(world.reference, world.rewards, BETA * spread)

    own = settled(world.reference, step)
    assert worlds.apart(own, tilted(world.reference, world.rewards, BETA)) > 0.05
    found = worlds.learnt(world, {"baseline": "batch_mean", "scale": "batch"})
    assert worlds.apart(found, own) < NEAR


class TestTwoTokens:
    """Answers of two tokens: what is learnt of the first depends on the second."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls) -> World:
        rewards = np.random.default_rng(3).normal(size=(4, 4))
        return worlds.make(rewards)

    def test_k1_in_the_reward_is_the_optimum(self, world: World):
        found = worlds.learnt(world, {"kl": "reward", "estimator": "k1"})
        optimum = tilted(world.reference, world.rewards, BETA)
        assert worlds.apart(found, optimum) < NEAR

    def test_k2_in_the_loss_is_near_it(self, world: World):
        """A token's own divergence is in its gradient, and not what it leads to: the
        first is tilted by the mean reward of what follows, not by its log-sum."""
        first = world.reference.sum(axis=1)
        second = world.reference / first[:, None]
        second = np.stack([tilted(p, r, BETA) for p, r in zip(second, world.rewards)])
        first = tilted(first, np.sum(second * world.rewards, axis=1), BETA)
        own = first[:, None] * second
        optimum = tilted(world.reference, world.rewards, BETA)
        assert worlds.apart(own, optimum) > 0.03
        found = worlds.learnt(world, {"kl": "loss", "estimator": "k2"})
        assert worlds.apart(found, own) < NEAR
