"""What is learnt of preferences alone, in the toy world: the scores behind them, and
the policy that is best under those.

People choose as Bradley and Terry say, with the world's rewards.
"""

from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.inference import decode
from genlm.model import transformer
from genlm.model.heads import head_specs
from genlm.parallel import mesh as meshes
from genlm.parallel import specs as parameters
from genlm.posttrain import best_of, dpo, reward
from genlm.posttrain.dpo import DpoConfig
from genlm.posttrain.reward import RewardConfig
from genlm.train import state as states
from genlm.train.step import make_train_step
from tests.posttrain import world as worlds
from tests.posttrain.test_optimum import REWARDS, tilted
from tests.posttrain.world import World

BETA = 0.5
PAIRS = 1024  # of a step


@pytest.fixture(scope="module")
def world() -> World:
    return worlds.make(REWARDS)


def _chosen(world: World, drawn_P2: np.ndarray, rng: Any) -> np.ndarray:
    """The same pairs, what a person prefers first."""
    ahead_P = world.rewards[drawn_P2[:, 0]] - world.rewards[drawn_P2[:, 1]]
    is_first_P = rng.random(len(drawn_P2)) < 1 / (1 + np.exp(-ahead_P))
    return np.where(is_first_P[:, None], drawn_P2, drawn_P2[:, ::-1])


def _batch(pairs_P2: np.ndarray) -> dict[str, np.ndarray]:
    """A row a pair: the prompt and an answer of one token, twice."""
    P = len(pairs_P2)
    tokens = np.zeros((P, 4), np.int32)
    tokens[:, 1::2] = pairs_P2

    def all_rows(row: list[int]) -> np.ndarray:
        return np.tile(np.asarray(row, np.int32), (P, 1))

    return {
        "tokens": tokens,
        "targets": np.roll(tokens, -1, axis=1),
        "weights": all_rows([1, 0, 1, 0]).astype(np.float32),
        "segments": all_rows([1, 1, 2, 2]),
        "positions": all_rows([0, 1, 0, 1]),
        "ranks": all_rows([1, 2]),
        "values": np.zeros((P, 2), np.float32),
    }


def _trained(
    loss: Any, specs: Any, params: Any, draw: Callable[[Any, int], Any], num_steps: int
) -> Any:
    """Parameters after so many steps on what `draw(params, step)` gives."""
    made, schedule = worlds.optimizer(specs, num_steps, 0.01)
    mesh = meshes.make(meshes.MeshConfig(), jax.devices()[:1])
    state = states.born_sharded(specs, made, mesh, seed=0)
    state = states.adopted(state, jax.tree.map(jnp.copy, params))
    step = jax.jit(make_train_step(loss, made, schedule), donate_argnums=0)
    for number in range(num_steps):
        state, _ = step(state, draw(state.params, number), None)
    return state.params


@pytest.mark.slow
def test_the_reward_model_recovers_the_scores(world: World):
    """Differences between scores, which are all that preferences tell, within 5 % of
    the range of them."""
    specs = {
        "model": transformer.param_specs(world.model),
        "head": head_specs(world.model, reward.HEAD),
    }
    head = parameters.initialize(specs["head"], jax.random.PRNGKey(0))
    rng = np.random.default_rng(0)

    def draw(params: Any, step: int) -> Any:
        return _batch(_chosen(world, rng.integers(0, 8, (PAIRS, 2)), rng))

    params = _trained(
        reward.make_reward_loss(world.model, RewardConfig()),
        specs,
        {"model": world.params, "head": head},
        draw,
        num_steps=300,
    )
    every = np.stack([np.arange(8), np.arange(8)], axis=1)
    scores = np.asarray(reward.scores(params, _batch(every), world.model, 2))[:, 0]
    apart = (scores - scores.mean()) - (world.rewards - world.rewards.mean())
    assert np.abs(apart[:, None] - apart[None, :]).max() < 0.05 * np.ptp(world.rewards)


def _dpo(world: World, draw: Callable[[Any, int], np.ndarray]) -> np.ndarray:
    """The policy that DPO ends with, on the pairs that are drawn."""
    config = DpoConfig("dpo", BETA, smoothing=0.0, gamma=0.0, good=1.0, bad=1.0)
    log_reference = np.log(world.reference)

    def batch(params: Any, step: int) -> Any:
        pairs = draw(params, step)
        reference = log_reference[pairs].astype(np.float32)
        return _batch(pairs) | {"reference": reference}

    specs = transformer.param_specs(world.model)
    loss = dpo.make_dpo_loss(world.model, config)
    params = _trained(loss, specs, world.params, batch, num_steps=300)
    return world.distribution(params)


@pytest.mark.slow
def test_dpo_on_pairs_of_the_reference_is_the_optimum(world: World):
    rng = np.random.default_rng(1)

    def draw(params: Any, step: int) -> np.ndarray:
        drawn = rng.choice(8, (PAIRS, 2), p=world.reference / world.reference.sum())
        return _chosen(world, drawn, rng)

    optimum = tilted(world.reference, world.rewards, BETA)
    assert worlds.apart(_dpo(world, draw), optimum) < 0.05


@pytest.mark.slow
def test_dpo_on_the_policys_own_pairs_is_the_optimum(world: World):
    rng = np.random.default_rng(2)

    def draw(params: Any, step: int) -> np.ndarray:
        answers = decode.generate(
            params,
            world.model,
            [worlds.PROMPT] * (2 * PAIRS),
            max_tokens=1,
            stop_ids=(-1,),
            pad=0,
            sampling=worlds.SAMPLING,
            seed=1,
            places=range(2 * PAIRS * step, 2 * PAIRS * (step + 1)),
        )
        drawn = np.asarray([answer.tokens[0] for answer in answers]).reshape(-1, 2)
        return _chosen(world, drawn, rng)

    optimum = tilted(world.reference, world.rewards, BETA)
    assert worlds.apart(_dpo(world, draw), optimum) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_best_of_several_has_its_known_distribution(world: World, n: int):
    rewards = np.round(world.rewards)  # some are as good as others
    answers = decode.generate(
        world.params,
        world.model,
        [worlds.PROMPT] * 8192,
        max_tokens=1,
        stop_ids=(-1,),
        pad=0,
        sampling=worlds.SAMPLING,
    )
    drawn_PK = np.asarray([answer.tokens[0] for answer in answers]).reshape(-1, n)
    places = best_of.best(rewards[drawn_PK])
    best = drawn_PK[np.arange(len(drawn_PK)), places]
    found = np.bincount(best, minlength=8) / len(best)
    expected = best_of.distribution(world.reference, rewards, n)
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-5)
    assert worlds.apart(found, expected) < 0.02 * n**0.5
