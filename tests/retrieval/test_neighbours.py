"""Cosines, neighbours, analogies, ranks and correlation, on numbers done by hand."""

import numpy as np
import pytest

from genlm.errors import UserError
from genlm.retrieval import neighbours

# angles in degrees; the cosine falls as they part
ANGLES = np.radians([0, 90, 10, 180, 40])
ROUND = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1) * [[1], [3], [2], [5], [0.1]]


def test_the_nearest_are_those_at_the_smallest_angle_whatever_their_length():
    found = neighbours.nearest(ROUND[:1] * 7, ROUND, 5)
    assert found.places.tolist() == [[0, 2, 4, 1, 3]]
    cosines = np.cos(np.radians([0, 10, 40, 90, 180]))
    np.testing.assert_allclose(found.cosines[0], cosines, atol=1e-6)
    left = neighbours.nearest(ROUND[:1], ROUND, 2, leave_out_QX=np.array([[0, 4]]))
    assert left.places.tolist() == [[2, 1]]


def test_of_equals_the_first_comes_first_and_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (40, 3)).astype(np.float32)  # many are the same
    queries = rng.normal(size=(17, 3)).astype(np.float32)
    whole = neighbours.nearest(queries, vectors, 6)
    cosines = neighbours.unit(queries) @ neighbours.unit(vectors).T
    plain = np.argsort(-cosines, axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(whole.places, plain)
    monkeypatch.setattr(neighbours, "_BLOCK", 100)  # two queries at a time
    np.testing.assert_array_equal(neighbours.nearest(queries, vectors, 6).places, plain)


def test_an_analogy_leaves_its_own_words_out():
    # man, woman, king, queen, apple: (male, royal, fruit)
    words = np.array([[1, 0, 0], [-1, 0, 0], [1, 1, 0], [-1, 1.5, 0.1], [0, 0, 1]])
    found = neighbours.analogies(words, np.array([[0, 1, 2], [0, 2, 1]]))
    assert found.places.tolist() == [[3], [3]]
    # king - man + man is king itself, and is left out: queen is the most royal then
    assert neighbours.analogies(words, np.array([[0, 2, 0]])).places.tolist() == [[3]]


def test_a_rank_counts_those_that_are_as_near_as_well():
    wanted = np.array([2, 0])
    assert neighbours.ranks(ROUND[[0, 0]], ROUND, wanted).tolist() == [1, 0]
    alike = np.ones((5, 2))
    assert neighbours.ranks(alike[:1], alike, np.array([3])).tolist() == [4]


def test_the_cosine_of_pairs():
    found = neighbours.cosine(np.array([[3, 4], [1, 0]]), np.array([[4, 3], [0, 2]]))
    np.testing.assert_allclose(found, [24 / 25, 0], atol=1e-7)


def test_spearman_with_equal_ranks_by_hand():
    # ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4; Pearson's of those: 4.5 / √(4.5 · 5)
    found = neighbours.spearman(np.array([1, 2, 2, 9]), np.array([0.1, 0.3, 0.2, 0.4]))
    assert found == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    with pytest.raises(UserError, match="no correlation"):
        neighbours.spearman(np.ones(4), np.arange(4))


def test_what_cannot_be_near_is_said():
    with pytest.raises(UserError, match="the 6 nearest of 5: ask for 1 to 5"):
        neighbours.nearest(ROUND, ROUND, 6)
    with pytest.raises(UserError, match="3 numbers have no cosine with those of 2"):
        neighbours.nearest(np.ones((1, 3)), ROUND, 1)
