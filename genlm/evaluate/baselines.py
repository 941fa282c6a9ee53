"""BASELINES: what any model of a text must beat, in bits a byte of held-out text.

An interpolated n-gram with modified Kneser-Ney discounts (Chen & Goodman 1999,
https://doi.org/10.1006/csla.1999.0128), over bytes or over a run's own tokens, and xz
given the training text. All in numpy: one sorted table a length of n-gram.
"""

import lzma
from typing import NamedTuple, Sequence

import numpy as np

from genlm.runs.progress import track

_BLOCK = 1 << 20  # bytes


class _Table(NamedTuple):
    """n-grams of one length, as context id * vocab + token."""

    context_keys: (
        np.ndarray
    )  # [contexts] leftmost token * shorter contexts + shorter id
    gram_keys: np.ndarray  # [n-grams] sorted
    counts: np.ndarray  # [n-grams] of the longest; below, distinct tokens to the left
    totals: np.ndarray  # [contexts] sum of counts
    freed: np.ndarray  # [contexts] sum of discounts
    discounts: np.ndarray  # [4] of counts 0, 1, 2, 3 and more


class KneserNey:
    """p(token | the `order` - 1 before it), learnt from documents.

    Args:
      documents: ids [length] below vocab_size, each; what stands before a document's
        first token is a start mark that is never predicted.
    """

    def __init__(
        self, documents: Sequence[np.ndarray], vocab_size: int, order: int = 5
    ):
        self.vocab_size, self.order = vocab_size, order
        windows = _windows(documents, vocab_size, order)
        self._tables: list[_Table] = []
        grams, contexts = [], np.zeros(len(windows), np.int64)
        context_keys = [np.zeros(1, np.int64)]
        for n in range(1, order + 1):
            if n > 1:
                keys = windows[:, order - n] * len(context_keys[-1]) + contexts
                unique, contexts = np.unique(keys, return_inverse=True)
                context_keys.append(unique)
            grams.append(contexts * vocab_size + windows[:, -1])
        longer_first = np.empty(0, np.int64)
        for n in range(order, 0, -1):
            unique, first, inverse, counts = np.unique(
                grams[n - 1], return_index=True, return_inverse=True, return_counts=True
            )
            if (
                n < order
            ):  # each longer n-gram counts once for the one that it ends with
                counts = np.bincount(inverse[longer_first], minlength=len(unique))
            longer_first = first
            self._tables.insert(
                0, _table(context_keys[n - 1], unique, counts, vocab_size)
            )

    def probabilities(self, documents: Sequence[np.ndarray]) -> np.ndarray:
        """p of every token [tokens] of `documents`, in order."""
        windows = _windows(documents, self.vocab_size, self.order)
        p = np.full(len(windows), 1.0 / self.vocab_size)
        contexts = np.zeros(len(windows), np.int64)
        shorter = 1
        for n, table in enumerate(self._tables, 1):
            if n > 1:
                keys = windows[:, self.order - n] * shorter + contexts
                contexts = np.where(contexts < 0, -1, _find(table.context_keys, keys))
                shorter = len(table.context_keys)
            known = contexts >= 0
            c = contexts[known]
            gram = _find(table.gram_keys, c * self.vocab_size + windows[known, -1])
            count = np.where(gram >= 0, table.counts[gram], 0)
            kept = count - table.discounts[np.minimum(count, 3)]
            p[known] = (kept + table.freed[c] * p[known]) / table.totals[c]
        return p

    def bits(self, documents: Sequence[np.ndarray]) -> float:
        """Bits to write `documents`."""
        return float(-np.log2(self.probabilities(documents)).sum())


def _windows(documents: Sequence[np.ndarray], start: int, order: int) -> np.ndarray:
    """[tokens, order]: each token, last, with the order - 1 before it."""
    lead = np.full(order - 1, start, np.int64)
    views = [
        np.lib.stride_tricks.sliding_window_view(np.concatenate([lead, d]), order)
        for d in documents
    ]
    return np.concatenate(views)


def _table(
    context_keys: np.ndarray, gram_keys: np.ndarray, counts: np.ndarray, vocab: int
) -> _Table:
    context = gram_keys // vocab
    discounts = _discounts(counts)
    taken = discounts[np.minimum(counts, 3)]
    size = len(context_keys)
    return _Table(
        context_keys,
        gram_keys,
        counts,
        np.bincount(context, counts, size),
        np.bincount(context, taken, size),
        discounts,
    )


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Equation 26 of the paper; half a count where too few n-grams tell."""
    n1, n2, n3, n4 = (int(np.sum(counts == c)) for c in (1, 2, 3, 4))
    if min(n1, n2, n3) == 0:
        return np.asarray([0.0, 0.5, 0.5, 0.5])
    y = n1 / (n1 + 2 * n2)
    each = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return np.asarray([0.0] + [min(max(d, 0.1), i) for i, d in enumerate(each, 1)])


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index in sorted `keys` of each wanted one, or -1."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def xz_bits(train: bytes, valid: bytes) -> float:
    """Bits that `valid` adds to an xz file of `train`."""
    return 8.0 * (_xz_bytes(train + valid) - _xz_bytes(train))


def _xz_bytes(text: bytes) -> int:
    """The size of its xz file, with progress shown: it takes a second a megabyte."""
    xz = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    starts = range(0, len(text), _BLOCK)
    size = 0
    for start in track(starts, "xz", len(starts), "MiB"):
        size += len(xz.compress(text[start : start + _BLOCK]))
    return size + len(xz.flush())
