"""The law of a ladder of runs, on ladders whose law is known."""

import numpy as np
import pytest

from genlm.evaluate import scaling
from genlm.evaluate.scaling import Law, Runs

TRUE = Law(E=0.9, A=60.0, alpha=0.38, B=900.0, beta=0.45)
TARGET = (1.6e6, 4.8e6)


def _ladder(noise: float, seed: int = 0) -> Runs:
    sizes, budgets = np.meshgrid([2e4, 1.2e5, 3.6e5, 8e5], [4e5, 8e5, 1.6e6, 3.2e6])
    N, D = sizes.ravel(), budgets.ravel()
    off = noise * np.random.default_rng(seed).standard_normal(len(N))
    return Runs(N, D, TRUE(N, D) * np.exp(off))


def test_without_noise_the_constants_come_back():
    np.testing.assert_allclose(scaling.fit(_ladder(0.0)), TRUE, rtol=1e-4)


def test_with_noise_the_truth_lies_in_the_intervals():
    """Mostly, as intervals of nine tenths of the draws have it."""
    inside = []
    for seed in range(4):
        runs = _ladder(0.003, seed)
        law = scaling.fit(runs)
        laws, outcomes = scaling.bootstrap(law, runs, *TARGET, draws=40, seed=0)
        low, high = np.quantile(np.asarray(laws), [0.05, 0.95], axis=0)
        inside += list((low < TRUE) & (TRUE < high))
        low, high = np.quantile(outcomes, [0.05, 0.95])
        inside.append(low < TRUE(*TARGET) < high)
        assert law(*TARGET) == pytest.approx(TRUE(*TARGET), rel=0.01)
    assert np.mean(inside) > 0.6


def test_losses_that_follow_no_law_are_fitted_badly_and_quickly():
    runs = Runs(*np.random.default_rng(0).uniform(1, 5, (3, 6)) * [[1e4], [1e5], [1]])
    law = scaling.fit(runs)
    assert np.all(np.isfinite(law))
    assert np.abs(scaling.residuals(law, runs)).max() > 0.02


def test_the_law_of_compute_alone_goes_through_the_best_runs():
    compute = np.asarray([1e9, 1e10, 1e11])
    tokens = compute / 6e3
    runs = Runs(np.full(3, 1e3), tokens, 3 * compute**-0.05)
    worse = Runs(
        *(
            np.append(x, y)
            for x, y in zip(
                (runs.parameters, runs.tokens, runs.losses), (1e3, 3e7, 9.0)
            )
        )
    )
    expected = pytest.approx(3 * 1e12**-0.05)
    assert scaling.compute_law(runs, 1e12) == expected
    assert scaling.compute_law(worse, 1e12) == expected
