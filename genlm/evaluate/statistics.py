"""STATISTICS of measured rows: bootstrap intervals, and whether two sides differ.

Before: one number a row (right or wrong, nats, a label and a guess). After: results
that say how sure they are. Rows are drawn anew with replacement (Efron 1979,
https://doi.org/10.1214/aos/1176344552), and the interval is that of percentiles.
"""

from typing import Callable, NamedTuple

import numpy as np

LIKELY = (0.025, 0.975)  # an interval is from the one share of the draws to the other
_DRAWS = 1000


class Estimate(NamedTuple):
    """A statistic of `n` rows, and the ends of its interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g}, n = {self.n})"


def mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def estimate(
    *columns: np.ndarray,
    statistic: Callable[..., float] = mean,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Estimate:
    """`statistic` of columns [rows, ...] that belong together, and its interval."""
    n = len(columns[0])
    random = np.random.default_rng(seed)
    found = np.empty(draws)
    for i in range(draws):
        rows = random.integers(n, size=n)
        found[i] = statistic(*(column[rows] for column in columns))
    low, high = np.nanquantile(found, LIKELY)
    return Estimate(statistic(*columns), float(low), float(high), n)


def difference(
    ours: np.ndarray, theirs: np.ndarray, *, draws: int = _DRAWS, seed: int = 0
) -> Estimate:
    """The mean of ours - theirs [rows], row by row: a paired interval. The two sides
    are not distinguishable where it holds 0."""
    return estimate(ours - theirs, draws=draws, seed=seed)


def is_clear(difference: Estimate) -> bool:
    """Whether an interval of a difference leaves out 0."""
    return difference.low > 0 or difference.high < 0
