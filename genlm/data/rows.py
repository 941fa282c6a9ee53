"""THE ROW INDEX: which pieces of which documents stand in which row.

Before: shards. After: batches. A row holds `length` predictions, so `length` + 1
token slots. A longer document is cut into pieces that overlap by one token, so that
every token but the first is predicted exactly once; short documents and last pieces are
packed by best fit, longest first (Ding et al. 2024, https://arxiv.org/abs/2404.10830):
no row cuts a document that would have fitted whole.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from genlm.errors import UserError


class Rows(NamedTuple):
    """Row r holds pieces[starts[r]:starts[r + 1]]."""

    pieces: np.ndarray  # [pieces, 3] int64: shard, first token, length
    starts: np.ndarray  # [rows + 1] int64
    length: int  # predictions a row

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: np.ndarray) -> "Rows":
        """The index of these `rows` alone, in their order."""
        counts = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        pieces = [self.pieces[self.starts[r] : self.starts[r + 1]] for r in rows]
        return Rows(np.concatenate(pieces), starts, self.length)


def index(documents: np.ndarray, length: int) -> Rows:
    """Pack documents [documents, 3] (shard, first token, length) into rows."""
    pieces = _cut(documents, length)
    order = np.argsort(-pieces[:, 2], kind="stable")
    row_of = best_fit(pieces[order, 2], length + 1)
    by_row = np.argsort(row_of, kind="stable")
    counts = np.bincount(row_of, minlength=1 if len(row_of) else 0)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Rows(pieces[order][by_row], starts, length)


def _cut(documents: np.ndarray, length: int) -> np.ndarray:
    """Pieces of at most `length` + 1 tokens; a document's neighbours share one."""
    counts = np.maximum(1, -(-(documents[:, 2] - 1) // length))
    which = np.repeat(np.arange(len(documents)), counts)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    offset = (np.arange(len(which)) - first[which]) * length
    shard, start, size = documents[which].T
    return np.stack([shard, start + offset, np.minimum(size - offset, length + 1)], 1)


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Row [pieces] of each piece, longest first: the fullest open row that takes it.

    `open_rows[s]` are the rows with s slots left; a bit set of the sizes s in use
    finds the smallest that fits in one step.
    """
    row_of = np.arange(len(lengths))  # of those that fill a row, and come first
    num_full = int(np.searchsorted(-lengths, -capacity, side="right"))
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]
    in_use, num_rows = 0, num_full
    for i, length in enumerate(lengths[num_full:].tolist(), num_full):
        fitting = in_use >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[left].pop()
            if not open_rows[left]:
                in_use &= ~(1 << left)
        else:
            left, row = capacity, num_rows
            num_rows += 1
        left -= length
        if left:
            open_rows[left].append(row)
            in_use |= 1 << left
        row_of[i] = row
    return row_of


def save(rows: Rows, folder: Path) -> None:
    np.save(folder / "pieces.npy", rows.pieces)
    np.save(folder / "rows.npy", np.append(rows.starts, rows.length))


def load(folder: Path) -> Rows:
    """The row index that `save` wrote.

    Raises:
      UserError: a file is missing, cut or unreadable.
    """
    try:
        starts = np.load(folder / "rows.npy")
        pieces = np.load(folder / "pieces.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder} is damaged: {error}; prepare it anew") from error
    return Rows(pieces, starts[:-1], int(starts[-1]))
