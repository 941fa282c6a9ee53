"""BATCHES OF PAIRS: a pure function of (seed, step) and the plan.

Before: pairs and the plan. After: the contrastive loss. A batch is a dict of arrays:
what `embed.padded` gives of the queries [B, T] and of the passages [B, P, T], each
under the name of its side; passage_ids [B, P]; and weights [B, 1]. Of a query's P
passages the first is its own, and the others are hard negatives.
"""

import dataclasses
import itertools
from typing import Iterator

import numpy as np

from genlm.data.pairs import Pairs
from genlm.data.plan import Plan
from genlm.retrieval import embed, neighbours
from genlm.retrieval.embed import Pooling
from genlm.tokenizer.base import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Tokens of a row of either side; what a longer text has more is not read."""

    query: int
    passage: int


class PairBatches:
    """Batches of shuffled pairs, epoch after epoch, for one process of several.

    Args:
      hard_QH: places of the hard negatives of each query.
    """

    def __init__(
        self,
        pairs: Pairs,
        hard_QH: np.ndarray,
        tokenizer: Tokenizer,
        pool: str,
        lengths: Lengths,
        plan: Plan,
        *,
        seed: int,
        process: int = 0,
        num_processes: int = 1,
    ):
        import grain  # loads jax

        self._ids_QP = np.concatenate([pairs.own[:, None], hard_QH], axis=1)
        self._lengths, self._pool, self._pad = lengths, pool, tokenizer.special.pad
        self._queries, self._passages = (
            embed.encode(tokenizer, texts, Pooling(pool, max_length=length))
            for texts, length in (
                (pairs.queries, lengths.query),
                (pairs.passages, lengths.passage),
            )
        )
        self._plan, self._process, self._num_processes = plan, process, num_processes
        order = grain.MapDataset.range(len(pairs.queries)).shuffle(seed=seed)
        self._order = order.repeat()

    @property
    def num_cut(self) -> tuple[int, int]:
        """How many queries and passages are longer than their rows."""
        return self._queries.num_cut, self._passages.num_cut

    def since(self, step: int) -> Iterator[Batch]:
        """The batches of `step`, `step` + 1, ...; data.ahead reads them ahead."""
        return (self[n] for n in itertools.count(step))

    def __getitem__(self, step: int) -> Batch:
        """This process's part of the batch that step `step` trains on."""
        part = self._plan.part(step, self._process, self._num_processes)
        pairs = [int(self._order[place]) for place in part]
        ids_BP = self._ids_QP[pairs]
        queries = self._padded(self._queries, pairs, self._lengths.query)
        passages = self._padded(
            self._passages, ids_BP.ravel().tolist(), self._lengths.passage
        )
        return {
            **{f"query_{name}": x for name, x in queries.items()},
            **{
                f"passage_{name}": x.reshape(*ids_BP.shape, -1)
                for name, x in passages.items()
            },
            "passage_ids": ids_BP.astype(np.int32),
            "weights": np.ones((len(part), 1), np.float32),
        }

    def _padded(self, rows: embed.Rows, places: list[int], length: int) -> Batch:
        return embed.padded(rows, places, self._pad, self._pool, length)


def mined(
    queries_QD: np.ndarray, passages_ND: np.ndarray, own_Q: np.ndarray, count: int
) -> np.ndarray:
    """hard_QH: places of the `count` passages nearest to each query that are not its
    own, by vectors of before the training.

    Raises:
      UserError: there are not so many.
    """
    if not count:
        return np.zeros((len(own_Q), 0), np.int64)
    return neighbours.nearest(
        queries_QD, passages_ND, count, leave_out_QX=own_Q[:, None]
    ).places
