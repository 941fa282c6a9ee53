"""BATCHES: a pure function of (seed, step) and the plan.

Before: rows and the plan. After: transformer.apply and the losses. A batch is a dict of
arrays [B, T]:
  tokens     int32   inputs; PAD where a row has nothing
  targets    int32   the token after each input
  weights    float32 1 where the target is to be learnt, 0 at PAD and between documents,
                     and where the shards' own weights are 0
  segments   int32   1, 2, ... a document of the row; 0 at PAD
  positions  int32   0, 1, ... within a document
The position in the data is the step and nothing else: no reader has a state to save.
"""

import itertools
from typing import Iterable, Iterator, Mapping

import numpy as np

from genlm.data.plan import Plan
from genlm.data.rows import Rows
from genlm.data.shards import Tokens

Batch = dict[str, np.ndarray]


def gather(tokens: Tokens, rows: Rows, ids: np.ndarray, pad: int) -> Batch:
    """The batch of rows `ids` [B]; an id past the last row is a row of PAD."""
    B, T = len(ids), rows.length
    ids = np.asarray(ids)
    first, last = rows.starts[np.minimum(np.stack([ids, ids + 1]), len(rows))]
    pieces = rows.pieces[_ranges(first, last - first)]
    shard, start, length = pieces.T
    number = _ranges(np.ones_like(first), last - first)  # 1, 2, ... in its row
    row = np.repeat(np.arange(B), last - first)
    before = np.cumsum(length) - length  # tokens in the pieces before this one
    at = before - before[np.searchsorted(row, row)]  # ... of the same row
    to = np.repeat(row, length), _ranges(at, length)

    slots_BT = np.full((B, T + 1), pad, np.int32)
    segments_BT = np.zeros((B, T + 1), np.int32)
    positions_BT = np.zeros((B, T + 1), np.int32)
    of = np.repeat(shard, length), _ranges(start, length)
    slots_BT[to] = _read(tokens.shards, *of)
    segments_BT[to] = np.repeat(number, length)
    positions_BT[to] = _ranges(np.zeros_like(length), length)
    same_BT = (segments_BT[:, 1:] == segments_BT[:, :-1]) & (segments_BT[:, 1:] > 0)
    weights_BT = same_BT.astype(np.float32)
    if tokens.weights:
        trained_BT = np.zeros((B, T + 1), np.float32)
        trained_BT[to] = _read(tokens.weights, *of)
        weights_BT *= trained_BT[:, 1:]
    return {
        "tokens": slots_BT[:, :-1],
        "targets": slots_BT[:, 1:],
        "weights": weights_BT,
        "segments": segments_BT[:, :-1],
        "positions": positions_BT[:, :-1],
    }


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ... (lengths[0] of them), starts[1], ..."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)


def _read(shards: list[np.memmap], shard: np.ndarray, offset: np.ndarray) -> np.ndarray:
    out = np.empty(len(shard), np.int32)
    for s in np.unique(shard):
        out[shard == s] = shards[s][offset[shard == s]]
    return out


class TrainBatches:
    """Batches of shuffled rows, epoch after epoch, for one process of several.

    Of the rows that the plan gives a step, process i of n reads the i-th n-th.

    Args:
      beside: arrays [rows, ...] of which a batch has its rows too.
    """

    def __init__(
        self,
        tokens: Tokens,
        rows: Rows,
        plan: Plan,
        *,
        seed: int,
        pad: int,
        process: int = 0,
        num_processes: int = 1,
        beside: Mapping[str, np.ndarray] = {},
    ):
        import grain  # loads jax

        self._tokens, self._rows, self._pad = tokens, rows, pad
        self._beside = beside
        self._plan, self._process, self._num_processes = plan, process, num_processes
        self._ids = grain.MapDataset.range(len(rows)).shuffle(seed=seed).repeat()

    def since(self, step: int) -> Iterator[Batch]:
        """The batches of `step`, `step` + 1, ...; data.ahead reads them ahead."""
        return (self[n] for n in itertools.count(step))

    def __getitem__(self, step: int) -> Batch:
        """This process's part of the batch that step `step` trains on."""
        return self.at(self._plan.part(step, self._process, self._num_processes))

    def at(self, places: Iterable[int]) -> Batch:
        """The rows that stand there in the order of all epochs."""
        ids = np.asarray([self._ids[place] for place in places], np.int64)
        batch = gather(self._tokens, self._rows, ids, self._pad)
        return batch | _of_rows(self._beside, ids)


def _of_rows(beside: Mapping[str, np.ndarray], ids: np.ndarray) -> Batch:
    """What stands beside rows `ids`; zeros for an id past the last row."""
    found = {}
    for name, each in beside.items():
        found[name] = each[np.minimum(ids, len(each) - 1)]
        found[name][ids >= len(each)] = 0
    return found


def valid_batches(
    tokens: Tokens,
    rows: Rows,
    *,
    batch_size: int,
    pad: int,
    process: int = 0,
    num_processes: int = 1,
    beside: Mapping[str, np.ndarray] = {},
) -> Iterator[Batch]:
    """Every row once, in order; the last batch is filled with rows of PAD. `beside` as
    of TrainBatches."""
    share = batch_size // num_processes
    for start in range(0, len(rows), batch_size):
        first = start + process * share
        ids = np.arange(first, first + share)
        yield gather(tokens, rows, ids, pad) | _of_rows(beside, ids)
