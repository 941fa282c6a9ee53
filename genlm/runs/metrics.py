"""METRICS: one JSON object a line, in the order of the steps.

A resumed run cuts the file back to its checkpoint's step, so that the file ends as an
uninterrupted run's would, but for the fields named in TIMES. Each row that was written
goes on to the sinks: see runs.sinks.
"""

import contextlib
import json
import os
from pathlib import Path
import threading
from typing import Any, Callable, Mapping, Protocol, Sequence

from genlm.errors import UserError
from genlm.runs import directory

TIMES = ("seconds", "tokens_per_second", "memory_mb")


class Sink(Protocol):
    """Takes the rows too."""

    def write(self, row: Mapping[str, Any]) -> None: ...


class Log:
    """Appends rows to a JSON-lines file; every row has a 'step'.

    Args:
      start_step: rows of later steps go; None keeps all.
      patience: seconds to try again where the disk does not take a row.
      sinks: get each row that was written.
    """

    def __init__(
        self,
        path: Path,
        start_step: int | None = 0,
        patience: float = 0.0,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._path, self._patience, self._sinks = path, patience, sinks
        kept = read(path)
        if start_step is not None:
            kept = [row for row in kept if row["step"] <= start_step and start_step]
        text = "".join(json.dumps(r) + "\n" for r in kept)
        directory.patiently(lambda: directory.write_atomic(path, text), patience)
        self._lock = threading.Lock()  # of the rows of several threads
        self._file = open(path, "ab", buffering=0)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, and hand it on.

        Raises:
          UserError: the disk does not take it.
        """
        rest = memoryview((json.dumps(row) + "\n").encode())

        def append() -> None:  # again, it goes on where the disk was full
            nonlocal rest
            while rest:
                rest = rest[self._file.write(rest) :]

        with self._lock:
            self._try(append)
        for sink in self._sinks:
            sink.write(row)

    def sync(self) -> None:
        """Make sure that what was written outlives a loss of power."""
        with self._lock:
            self._try(lambda: os.fsync(self._file.fileno()))

    def close(self) -> None:
        self._file.close()

    def _try(self, act: Callable[[], object]) -> None:
        try:
            directory.patiently(act, self._patience)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()  # or it would try again, and complain, at exit
            why = directory.reason(error)
            raise UserError(f"cannot write {self._path}: {why}") from error


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; [] if there is none. A line that was cut off in
    the middle or damaged ends them."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
