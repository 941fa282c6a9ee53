"""READ AHEAD: batches from a thread, read again where they do not come.

A reader on a network disk may hang for ever. Since a batch is a function of its step
alone, another reader can be opened at the step where the first one hung.
"""

import queue
import threading
from typing import Any, Callable, Iterator

from genlm.errors import UserError

_TRIES = 4  # readers in a row that may hang
_AHEAD = 8  # batches

Since = Callable[[int], Iterator[Any]]  # the batches of a step and those after it


class Ahead:
    """An iterator over since(step).

    Args:
      patience: seconds to wait for a batch, 0 for ever.
      on_stall: is told the step whose batch did not come, each time.
    """

    def __init__(
        self, since: Since, step: int, patience: float, on_stall: Callable[[int], None]
    ):
        self._since, self._step = since, step
        self._patience, self._on_stall = patience or None, on_stall
        self._batches = _read(since, step)

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Any:
        batch = self._next()
        if isinstance(batch, Exception):
            raise batch
        self._step += 1
        return batch

    def _next(self) -> Any:
        for _ in range(_TRIES):
            try:
                return self._batches.get(timeout=self._patience)
            except queue.Empty:
                self._on_stall(self._step)
                self._batches = _read(self._since, self._step)
        raise UserError(
            f"no batch for step {self._step + 1} came from {_TRIES} readers, each in"
            f" {self._patience:g} seconds; is the disk there?"
        )


def _read(since: Since, step: int) -> queue.Queue:
    """A queue that a thread of its own fills: batches, or the exception that ended
    them. A reader that hung and is not waited for any more fills its own to the end."""
    batches: queue.Queue = queue.Queue(_AHEAD)

    def fill() -> None:
        try:
            for batch in since(step):
                batches.put(batch)
            batches.put(StopIteration())
        except Exception as error:  # raised where the batch is waited for
            batches.put(error)

    threading.Thread(target=fill, daemon=True).start()
    return batches
