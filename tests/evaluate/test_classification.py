"""Scores of classifiers beside scikit-learn's, and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from genlm.evaluate import classification

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "classification.json"


def _golden(name: str) -> tuple[np.ndarray, np.ndarray, dict]:
    told = json.loads(GOLDEN.read_text("utf-8"))[name]
    return np.array(told["probabilities"]), np.array(told["labels"]), told["measured"]


@pytest.mark.parametrize("name", ["spam", "pubmedqa"])
def test_numbers_are_scikit_learn_s(name: str):
    p, labels, told = _golden(name)
    names = list("abc"[: p.shape[1]])
    found = classification.measure(p, labels, names, draws=50)
    for ours, theirs in [
        ("accuracy", "accuracy"),
        ("macro_f1", "macro_f1"),
        ("roc_auc", "roc_auc"),
        ("calibration_error", "ece"),
        ("brier", "brier"),
    ]:
        score = getattr(found, ours)
        assert np.isclose(score.value, told[theirs], rtol=0, atol=1e-12), ours
        assert score.low < score.high and score.n == len(labels)
    assert found.confusion.tolist() == told["confusion"]
    for which in ("precision", "recall", "f1"):
        values = [getattr(scores, which).value for scores in found.classes]
        assert np.allclose(values, told[which], rtol=0, atol=1e-12)
    assert [scores.rows for scores in found.classes] == told["count"]
    assert [scores.name for scores in found.classes] == names


def test_intervals_hold_their_value():
    p, labels, _ = _golden("pubmedqa")
    found = classification.measure(p, labels, ["maybe", "no", "yes"], draws=300)
    for score in (found.accuracy, found.macro_f1, found.roc_auc, found.brier):
        assert score.low < score.value < score.high
    error = 1.96 * np.sqrt(0.6267 * 0.3733 / 150)  # of a share, as it is known
    assert np.isclose(found.accuracy.high - found.accuracy.low, 2 * error, rtol=0.15)


def test_by_hand():
    """Four rows, guesses 0 0 1 1, labels 0 1 1 1."""
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    labels, guesses = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    assert classification.accuracy(labels, guesses) == 0.75
    matrix = classification.confusion(labels, guesses, 2)
    assert matrix.tolist() == [[1, 0], [1, 2]]
    scores = classification.measure(p, labels, ["a", "b"], draws=2).classes
    assert [s.precision.value for s in scores] == [0.5, 1.0]
    assert np.allclose([s.recall.value for s in scores], [1.0, 2 / 3])
    assert np.allclose([s.f1.value for s in scores], [2 / 3, 4 / 5])
    assert np.isclose(classification.macro_f1(labels, guesses), 11 / 15)
    assert classification.roc_auc(p, labels) == 1.0
    assert np.isclose(
        classification.brier(p, labels), 2 * (0.01 + 0.36 + 0.04 + 0.09) / 4
    )
    # each in a bin of its own: |1 - .9|, |0 - .6|, |1 - .8|, |1 - .7|
    assert np.isclose(classification.calibration_error(p, labels), 1.2 / 4)
    assert classification.reliability(p, labels).rows.tolist() == [1, 1, 1, 1]


def test_area_counts_ties_as_half():
    """Over .5, .2 and .9: .5 is by half, wholly and not; .9 wholly twice, and half."""
    p = np.array([0.5, 0.9, 0.5, 0.2, 0.9])
    labels = np.array([1, 1, 0, 0, 0])
    area = classification.roc_auc(np.stack([1 - p, p], 1), labels)
    assert np.isclose(area, (0.5 + 1 + 0 + 1 + 1 + 0.5) / 6)
    flat = np.full((5, 2), 0.5)
    assert classification.roc_auc(flat, labels) == 0.5
    assert np.isnan(classification.roc_auc(flat, np.zeros(5, int)))


def test_a_class_that_is_nowhere_is_in_no_mean():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    found = classification.measure(p, np.array([0, 1, 1]), list("abc"), draws=20)
    assert np.isclose(found.macro_f1.value, 2 / 3)
    assert np.isnan(found.classes[2].f1.value) and found.classes[2].rows == 0
    assert found.roc_auc.value == 1.0


def test_a_calibrated_model_has_little_error():
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(3), 20_000)
    labels = (p.cumsum(1) < random.random((20_000, 1))).sum(1)
    assert classification.calibration_error(p, labels) < 0.02
    sharper = p**2 / (p**2).sum(1, keepdims=True)
    assert classification.calibration_error(sharper, labels) > 0.1
    assert classification.brier(p, labels) < classification.brier(sharper, labels)


@pytest.mark.parametrize(
    "p, labels, why",
    [
        ([[0.5, 0.6]], [0], "sum of 1"),
        ([[1.5, -0.5]], [0], "not probabilities"),
        ([[np.nan, 1.0]], [0], "not probabilities"),
        ([[0.5, 0.5]], [2], "none of 0 to 1"),
        ([[0.5, 0.5]], [0, 1], "those of 2 rows"),
        ([[0.2, 0.3, 0.5]], [0], "2 classes"),
        (np.zeros((0, 2)), [], "those of 0 rows"),
    ],
)
def test_what_are_no_probabilities(p, labels, why: str):
    with pytest.raises(ValueError, match=why):
        classification.measure(np.array(p), np.array(labels, int), ["a", "b"])
