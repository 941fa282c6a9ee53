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
_POLL = 0.1  # seconds between looks whether anyone waits for batches still
_LAST_BATCH = 10.0  # seconds for the batch that is being read at the end

Since = Callable[[int], Iterator[Any]]  # the batches of a step and those after it


class Ahead:
    """An iterator over since(step), and a context manager that ends its thread.

    Args:
      step: of the first batch; these count from 0.
      patience: seconds to wait for a batch, 0 for ever.
      on_stall: is told the step whose batch did not come, each time; as in all that is
        said of a run, steps count from 1.
    """

    def __init__(
        self, since: Since, step: int, patience: float, on_stall: Callable[[int], None]
    ):
        self._since, self._step = since, step
        self._patience, self._on_stall = patience or None, on_stall
        self._reader = _Reader(since, step)

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.end()

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Any:
        batch = self._next()
        if isinstance(batch, Exception):
            raise batch
        self._step += 1
        return batch

    def _next(self) -> Any:
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._reader.batches.get(timeout=self._patience)
            except queue.Empty:
                self._on_stall(self._step + 1)
                self._reader.ended.set()  # should it ever wake
                if tries_left:
                    self._reader = _Reader(self._since, self._step)
        raise UserError(
            f"no batch for step {self._step + 1} came from {_TRIES} readers, each in"
            f" {self._patience:g} seconds; is the disk there?"
        )


class _Reader:
    """A thread that fills a queue with batches, or with the exception that ended them.

    Python must not exit while it reads: native code of a daemon thread would abort the
    process. One that hangs waits, and may be left behind.
    """

    def __init__(self, since: Since, step: int):
        self.batches: queue.Queue = queue.Queue(_AHEAD)
        self.ended = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(since, step), daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        self.ended.set()
        self._thread.join(_LAST_BATCH)

    def _fill(self, since: Since, step: int) -> None:
        try:
            for batch in since(step):
                if self.ended.is_set():
                    return
                self._put(batch)
            self._put(StopIteration())
        except Exception as error:  # raised where the batch is waited for
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self.ended.is_set():
            try:
                self.batches.put(item, timeout=_POLL)
                return
            except queue.Full:
                continue
