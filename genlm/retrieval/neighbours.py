"""NEIGHBOURS: how near vectors are to each other, and what stands nearest.

Before: vectors of tokens, words or texts (embed). After: `genlm embed`, and measures of
meaning. All is exact: every vector is compared, some rows at a time.
"""

from typing import Iterator, NamedTuple

import numpy as np

from genlm.errors import UserError
from genlm.retrieval.embed import unit

_BLOCK = 1 << 24  # scores in memory at a time


class Nearest(NamedTuple):
    """Of each query [Q, k]: places of the nearest, the nearest first, and cosines."""

    places: np.ndarray
    cosines: np.ndarray


def cosine(a_XD: np.ndarray, b_XD: np.ndarray) -> np.ndarray:
    """The cosine of each pair of rows [X]."""
    return np.einsum("...D,...D->...", unit(a_XD), unit(b_XD))


def nearest(
    queries_QD: np.ndarray,
    vectors_ND: np.ndarray,
    k: int,
    leave_out_QX: np.ndarray | None = None,
) -> Nearest:
    """The k vectors nearest to each query by cosine; of equals the first.

    Args:
      leave_out_QX: places that are none of them, for each query.

    Raises:
      UserError: there are not so many, or the two are not of one size.
    """
    left = len(vectors_ND)
    if leave_out_QX is not None:
        left -= leave_out_QX.shape[1]
    if not 0 < k <= left:
        raise UserError(f"the {k} nearest of {left}: ask for 1 to {left}")
    found = []
    for at, scores_qN in _scores(queries_QD, vectors_ND):
        if leave_out_QX is not None:
            np.put_along_axis(scores_qN, leave_out_QX[at], -np.inf, axis=1)
        found.append(_top(scores_qN, k))
    places, cosines = map(np.concatenate, zip(*found))
    return Nearest(places, cosines)


def _scores(
    queries_QD: np.ndarray, vectors_ND: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Cosines [q, N] of some queries at a time, and which those are."""
    if queries_QD.shape[-1] != vectors_ND.shape[-1]:
        raise UserError(
            f"vectors of {queries_QD.shape[-1]} numbers have no cosine with those of"
            f" {vectors_ND.shape[-1]}"
        )
    queries_QD, vectors_DN = unit(queries_QD), unit(vectors_ND).T
    rows = max(1, _BLOCK // vectors_DN.shape[1])
    for start in range(0, len(queries_QD), rows):
        at = slice(start, start + rows)
        yield at, queries_QD[at] @ vectors_DN


def _top(scores_qN: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of the k highest of each row, in order."""
    bound_q1 = -np.partition(-scores_qN, k - 1, axis=1)[:, k - 1 : k]
    scores_qN = np.where(scores_qN >= bound_q1, scores_qN, -np.inf)
    places = np.argsort(-scores_qN, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(scores_qN, places, axis=1)


def analogies(vectors_ND: np.ndarray, asked_Q3: np.ndarray, k: int = 1) -> Nearest:
    """The k nearest to b - a + c for each (a, b, c) of places: a is to b as c is to
    what? The three are left out (3CosAdd, https://aclanthology.org/W14-1618).

    Raises:
      UserError: there are not so many vectors.
    """
    vectors_ND = unit(vectors_ND)
    a_Q, b_Q, c_Q = np.asarray(asked_Q3).T
    wanted_QD = vectors_ND[b_Q] - vectors_ND[a_Q] + vectors_ND[c_Q]
    return nearest(wanted_QD, vectors_ND, k, leave_out_QX=np.asarray(asked_Q3))


def ranks(
    queries_QD: np.ndarray, vectors_ND: np.ndarray, wanted_Q: np.ndarray
) -> np.ndarray:
    """The rank [Q] of each query's wanted vector among all, 0 the nearest. Of equals
    it counts as the last, so that vectors that are all alike find nothing."""
    found = []
    for at, scores_qN in _scores(queries_QD, vectors_ND):
        own_q1 = np.take_along_axis(scores_qN, wanted_Q[at, None], axis=1)
        found.append(np.sum(scores_qN >= own_q1, axis=1) - 1)
    return np.concatenate(found)


def spearman(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Spearman's correlation of two lists of scores, equals at their mean rank.

    Raises:
      UserError: one of them is the same everywhere.
    """
    from scipy import stats  # half a second

    if min(np.ptp(ours), np.ptp(theirs)) == 0:
        raise UserError("scores that are all the same have no correlation")
    return float(stats.spearmanr(ours, theirs).statistic)
