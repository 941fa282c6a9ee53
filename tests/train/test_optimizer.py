"""The optimizer: the learning rate by hand, and what decays."""

import dataclasses

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import transformer
from genlm.parallel import specs
from genlm.train import optimizer
from genlm.train.optimizer import OptimizerConfig
from tests.laws.families import FAMILIES

CONFIG = OptimizerConfig(learning_rate=2.0, warmup_steps=4, final_rate=0.1)


def test_the_learning_rate_warms_up_peaks_and_ends():
    schedule = optimizer.make_schedule(CONFIG, num_steps=24)
    rates = [float(schedule(step)) for step in range(25)]
    # from 2/5 to 2 in four steps, then half a cosine to 0.2 in twenty
    expected = [0.4, 0.8, 1.2, 1.6, 2.0]
    turn = np.pi * np.arange(1, 21) / 20
    expected += (0.2 + 1.8 * (1 + np.cos(turn)) / 2).tolist()
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    np.testing.assert_allclose(rates[14], 1.1, rtol=1e-5)
    np.testing.assert_allclose(schedule(100), 0.2, rtol=1e-5)


def test_no_warm_up_starts_at_the_peak():
    config = dataclasses.replace(CONFIG, warmup_steps=0)
    schedule = optimizer.make_schedule(config, num_steps=10)
    np.testing.assert_allclose(schedule(0), 2.0)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_run_shorter_than_its_warm_up_still_learns(num_steps: int):
    schedule = optimizer.make_schedule(CONFIG, num_steps)
    rates = [float(schedule(step)) for step in range(num_steps + 1)]
    assert 0 < min(rates) and max(rates) <= 2.0


def test_weights_decay_and_norms_and_biases_do_not():
    model = dataclasses.replace(FAMILIES["biases_gelu"], tie_embeddings=False)
    shapes = specs.shapes(transformer.param_specs(model))
    params = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    made = optimizer.make_optimizer(
        dataclasses.replace(CONFIG, weight_decay=0.5), num_steps=24
    )
    nothing = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(lambda: made.update(nothing, made.init(params), params)[0])()
    for path, update in traverse_util.flatten_dict(updates, sep="/").items():
        kept = path.endswith(("norm", "bias"))
        # the first rate is 0.4: 0.4 · 0.5 of each weight goes
        np.testing.assert_allclose(update, 0.0 if kept else -0.2, rtol=1e-5)


def test_a_gradient_is_clipped_by_its_norm():
    params = {"w": jnp.zeros(2)}
    config = dataclasses.replace(CONFIG, weight_decay=0.0, epsilon=1.0)
    made = optimizer.make_optimizer(config, num_steps=24)
    # of (30, 40) is left (0.6, 0.8): Adam's first update is rate · g / (g + epsilon)
    updates, _ = made.update(
        {"w": jnp.asarray([30.0, 40.0])}, made.init(params), params
    )
    np.testing.assert_allclose(
        updates["w"], [-0.4 * 0.6 / 1.6, -0.4 * 0.8 / 1.8], rtol=1e-5
    )
