"""CALIBRATION: how sure a model is, beside how often it is right.

Before: the records of choices: the probability of the one that was taken, among all
offered, and whether it was right. After: metrics and the report.
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # as in arXiv:1706.04599


class Bin(NamedTuple):
    """The answers whose confidence is from one fifteenth to the next."""

    confidence: float  # mean
    accuracy: float
    n: int


def reliability(confidence: np.ndarray, is_right: np.ndarray) -> list[Bin]:
    """The bins that hold an answer, from unsure to sure."""
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(which, minlength=BINS)
    sums = [np.bincount(which, x, BINS) for x in (confidence, is_right)]
    return [
        Bin(
            float(sums[0][b] / counts[b]), float(sums[1][b] / counts[b]), int(counts[b])
        )
        for b in np.flatnonzero(counts)
    ]


def error(confidence: np.ndarray, is_right: np.ndarray) -> float:
    """The expected calibration error: the mean gap of the bins, each counted as often
    as it holds an answer (equation 3 of arXiv:1706.04599)."""
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(which, confidence - is_right, BINS)
    return float(np.abs(gaps).sum() / len(confidence))
