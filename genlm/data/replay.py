"""REPLAY: rows of another text among those that are trained on, at a fixed share.

Before: two texts prepared with one tokenizer. After: a training that learns a field
and does not forget what it knew. Of the first n rows of all steps, n · share (rounded
down) are replayed, for every n: so a row is still a function of (seed, step) alone.
"""

import itertools
from typing import Iterator

import numpy as np

from genlm.data.batches import Batch, TrainBatches
from genlm.data.plan import Plan
from genlm.errors import UserError


class Replayed:
    """Batches of `main`, of which a `share` of the rows are of `other`."""

    def __init__(
        self,
        main: TrainBatches,
        other: TrainBatches,
        plan: Plan,
        share: float,
        *,
        process: int = 0,
        num_processes: int = 1,
    ):
        self._main, self._other, self._plan, self._share = main, other, plan, share
        self._process, self._num_processes = process, num_processes

    def since(self, step: int) -> Iterator[Batch]:
        """The batches of `step`, `step` + 1, ..."""
        return (self[n] for n in itertools.count(step))

    def __getitem__(self, step: int) -> Batch:
        """This process's part of the batch that step `step` trains on."""
        part = self._plan.part(step, self._process, self._num_processes)
        places = np.asarray(part)
        before = np.floor(places * self._share).astype(np.int64)
        is_other = np.floor((places + 1) * self._share).astype(np.int64) > before
        parts = (
            self._main.at((places - before)[~is_other]),
            self._other.at(before[is_other]),
        )
        order = np.argsort(np.argsort(is_other, kind="stable"), kind="stable")
        return {
            name: np.concatenate([part[name] for part in parts])[order]
            for name in parts[0]
        }


def check_share(share: float, other: str) -> None:
    """Make sure that a share goes with another text.

    Raises:
      UserError: it does not.
    """
    if not 0 <= share < 1 or bool(share) != bool(other):
        raise UserError(
            "data.replay_share is in (0, 1) with data.replay, the folder of another"
            " prepared text, and 0 without"
        )
