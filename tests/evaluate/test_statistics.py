"""Intervals beside what is known of them."""

import numpy as np

from genlm.evaluate import statistics


def test_a_mean_s_interval_is_that_of_its_standard_error():
    rows = np.random.default_rng(1).normal(3.0, 2.0, 4000)
    found = statistics.estimate(rows, draws=4000)
    error = 1.96 * rows.std() / np.sqrt(len(rows))
    assert found.value == rows.mean() and found.n == 4000
    assert np.isclose(found.value - found.low, error, rtol=0.1)
    assert np.isclose(found.high - found.value, error, rtol=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        rows = random.random(100) < 0.3
        found = statistics.estimate(rows.astype(float), draws=200, seed=seed)
        held += found.low <= 0.3 <= found.high
    assert 180 <= held <= 199


def test_rows_that_belong_together_are_drawn_together():
    x = np.random.default_rng(3).normal(size=500)
    same = statistics.estimate(
        x, 2 * x, statistic=lambda a, b: float(np.corrcoef(a, b)[0, 1])
    )
    assert np.allclose([same.value, same.low, same.high], 1.0)


def test_a_pair_is_clear_where_two_means_would_not_be():
    random = np.random.default_rng(4)
    theirs = random.normal(0.0, 10.0, 300)
    ours = theirs + random.normal(0.5, 0.5, 300)
    assert statistics.is_clear(statistics.difference(ours, theirs))
    assert not statistics.is_clear(statistics.difference(ours, ours))
