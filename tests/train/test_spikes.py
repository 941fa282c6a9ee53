"""Losses beside those before them, against numpy."""

import jax
import numpy as np
import pytest

from genlm.train import spikes
from genlm.train.guard import GuardConfig
from tests.command import mistake


def _distances(losses: np.ndarray) -> np.ndarray:
    watch, kept, found = jax.jit(spikes.watch), spikes.empty(), []
    for loss in losses.astype(np.float32):
        kept, distance = watch(kept, loss)
        found.append(float(distance))
    return np.asarray(found)


def test_a_distance_is_in_spreads_of_the_window():
    losses = np.random.default_rng(0).normal(3.0, 0.1, spikes.WINDOW + 20)
    losses[-1] = 9.0
    found = _distances(losses)
    assert not found[: spikes.WINDOW].any()  # nothing to compare with yet
    for step in range(spikes.WINDOW, len(losses)):
        window = losses[step - spikes.WINDOW : step]
        spread = 1.4826 * np.median(np.abs(window - np.median(window)))
        expected = (losses[step] - np.median(window)) / spread
        np.testing.assert_allclose(found[step], expected, rtol=1e-3)
    assert np.abs(found[:-1]).max() < 4 and found[-1] > 40


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_is_left_out(odd: float):
    losses = np.random.default_rng(0).normal(3.0, 0.1, 2 * spikes.WINDOW)
    with_odd = np.insert(losses, [10, spikes.WINDOW + 5], odd)
    found = np.delete(_distances(with_odd), [10, spikes.WINDOW + 6])
    np.testing.assert_array_equal(found, _distances(losses))


def test_a_flat_loss_is_no_division_by_nothing():
    losses = np.full(spikes.WINDOW + 2, 2.0)
    losses[-1] = 2.002  # a thousandth above: one floor of a spread
    np.testing.assert_allclose(_distances(losses)[-2:], [0.0, 1.0], atol=1e-3)


@pytest.mark.parametrize("name", [f for f in GuardConfig.__dataclass_fields__])
def test_bounds_below_nothing_are_refused(name: str, tmp_path):
    recipe = ["run", "experiments/pretrain_names.py:smoke", "--workdir", tmp_path / "r"]
    value = -1.0 if "float" in str(GuardConfig.__annotations__[name]) else -1
    assert f"guard.{name} is below 0" in mistake(
        *recipe, f"--config.guard.{name}={value}"
    )
