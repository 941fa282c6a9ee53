"""CLASSIFICATION: how good probabilities of classes are, each number with its interval.

Before: probabilities [rows, classes] of a model, and labels [rows]. After: reports. A
guess is the most probable class. A class that no row has and no guess names is left out
of means over classes; what divides by nothing else is 0, as in scikit-learn.
"""

from typing import Callable, NamedTuple, Sequence

import numpy as np

from genlm.evaluate.statistics import Estimate, estimate, mean
from genlm.runs.progress import track

BINS = 15  # of confidence


class ClassScores(NamedTuple):
    """What is measured of one class."""

    name: str
    rows: int  # that have it
    precision: Estimate
    recall: Estimate
    f1: Estimate


class Scores(NamedTuple):
    """What is measured of a classifier."""

    accuracy: Estimate
    macro_f1: Estimate
    roc_auc: Estimate
    calibration_error: Estimate
    brier: Estimate
    classes: list[ClassScores]
    confusion: np.ndarray  # [classes, classes] rows by label, then by guess


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Scores:
    """Every score of probabilities [rows, classes] against labels [rows].

    Raises:
      ValueError: they are not probabilities, or labels, of that many rows and classes.
    """
    _check(probabilities, labels, names)
    guesses = probabilities.argmax(1)

    def estimated(statistic: Callable[..., float], *columns: np.ndarray) -> Estimate:
        if np.isnan(statistic(*columns)):  # and so of every draw
            return Estimate(np.nan, np.nan, np.nan, len(labels))
        return estimate(*columns, statistic=statistic, draws=draws, seed=seed)

    def of_class(number: int, name: str) -> ClassScores:
        columns = labels == number, guesses == number
        return ClassScores(
            name=name,
            rows=int(columns[0].sum()),
            precision=estimated(_precision, *columns),
            recall=estimated(_recall, *columns),
            f1=estimated(_f1, *columns),
        )

    numbered = track(enumerate(names), "score classes", len(names), "classes")
    return Scores(
        accuracy=estimated(accuracy, labels, guesses),
        macro_f1=estimated(macro_f1, labels, guesses),
        roc_auc=estimated(_mean_area, _levels(probabilities), labels),
        calibration_error=estimated(_gap, probabilities.max(1), guesses == labels),
        brier=estimated(mean, _distances(probabilities, labels)),
        classes=[of_class(number, name) for number, name in numbered],
        confusion=confusion(labels, guesses, len(names)),
    )


def _check(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    shape = (len(labels), len(names))
    if probabilities.shape != shape or min(shape) < 1 or shape[1] < 2:
        raise ValueError(
            f"probabilities {probabilities.shape} are not those of {shape[0]} rows and"
            f" {shape[1]} classes"
        )
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(1), 1, 1e-3):
        raise ValueError("these are not probabilities: each row has a sum of 1")
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(f"a label is none of 0 to {len(names) - 1}")


def accuracy(labels: np.ndarray, guesses: np.ndarray) -> float:
    return float(np.mean(labels == guesses))


def confusion(labels: np.ndarray, guesses: np.ndarray, num_classes: int) -> np.ndarray:
    """Rows by their label and by their guess [classes, classes]."""
    pairs = np.bincount(labels * num_classes + guesses, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def _precision(is_class: np.ndarray, is_guess: np.ndarray) -> float:
    return _share(is_class & is_guess, is_guess, is_class)


def _recall(is_class: np.ndarray, is_guess: np.ndarray) -> float:
    return _share(is_class & is_guess, is_class, is_guess)


def _share(right: np.ndarray, of: np.ndarray, other: np.ndarray) -> float:
    """0 where there is nothing to divide by; nan where there is nothing at all."""
    if count := np.count_nonzero(of):
        return np.count_nonzero(right) / count
    return 0.0 if other.any() else np.nan


def _f1(is_class: np.ndarray, is_guess: np.ndarray) -> float:
    known = np.count_nonzero(is_class) + np.count_nonzero(is_guess)
    return 2 * np.count_nonzero(is_class & is_guess) / known if known else np.nan


def macro_f1(labels: np.ndarray, guesses: np.ndarray) -> float:
    """The mean of the classes' F1."""
    matrix = confusion(labels, guesses, int(max(labels.max(), guesses.max())) + 1)
    known = matrix.sum(0) + matrix.sum(1)
    return float(np.mean(2 * np.diag(matrix)[known > 0] / known[known > 0]))


def roc_auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How often a row of a class has more of its probability than a row without; of
    more than two classes the mean of each against the rest; nan where none has both.

    Mann and Whitney 1947 (https://doi.org/10.1214/aoms/1177730491); a tie is half.
    """
    return _mean_area(_levels(probabilities), labels)


def _levels(probabilities: np.ndarray) -> np.ndarray:
    """The place of each probability among those of its class [rows, classes], equal for
    equal ones; that of draws is the same, so that they need no sorting."""
    columns = [np.unique(column, return_inverse=True)[1] for column in probabilities.T]
    return np.stack(columns, 1)


def _mean_area(levels: np.ndarray, labels: np.ndarray) -> float:
    numbers = [1] if levels.shape[1] == 2 else range(levels.shape[1])
    areas = [_area(levels[:, number], labels == number) for number in numbers]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else np.nan


def _area(levels: np.ndarray, is_class: np.ndarray) -> float:
    size = int(levels.max()) + 1
    inside = np.bincount(levels[is_class], minlength=size)
    outside = np.bincount(levels[~is_class], minlength=size)
    pairs = int(inside.sum()) * int(outside.sum())
    if not pairs:
        return np.nan
    below = np.cumsum(outside) - outside / 2  # a tie counts half
    return float(inside @ below) / pairs


class Reliability(NamedTuple):
    """Bins of confidence that hold rows: what was claimed, and what was so."""

    confidence: np.ndarray  # [bins] the mean probability of a guess
    accuracy: np.ndarray  # [bins] the share of right ones
    rows: np.ndarray  # [bins]


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Rows by the probability of their guess, in BINS of equal width."""
    return _binned(probabilities.max(1), probabilities.argmax(1) == labels)


def _binned(confidence: np.ndarray, is_right: np.ndarray) -> Reliability:
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.searchsorted(edges, confidence)
    rows = np.bincount(bins, minlength=BINS)
    held = rows > 0
    claimed = np.bincount(bins, confidence, BINS)[held] / rows[held]
    right = np.bincount(bins, is_right, BINS)[held] / rows[held]
    return Reliability(claimed, right, rows[held])


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How far confidence is from accuracy, the mean over bins by their rows (ECE, Guo
    et al. 2017, https://arxiv.org/abs/1706.04599).

    Chance in a bin only adds to it, and drawing rows anew adds chance: of a model that
    is well calibrated the interval stands above the value.
    """
    return _gap(probabilities.max(1), probabilities.argmax(1) == labels)


def _gap(confidence: np.ndarray, is_right: np.ndarray) -> float:
    bins = _binned(confidence, is_right)
    return float(np.average(np.abs(bins.accuracy - bins.confidence), weights=bins.rows))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance from what was so, 0 to 2, as Brier 1950 sums it over
    classes; with two classes, half of it is what some report."""
    return mean(_distances(probabilities, labels))


def _distances(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    so = np.eye(probabilities.shape[1])[labels]
    return np.sum((probabilities - so) ** 2, axis=1)
