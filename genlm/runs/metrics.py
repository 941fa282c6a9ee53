"""METRICS: one JSON object a line, in the order of the steps.

A resumed run cuts the file back to its checkpoint's step, so that the file ends as an
uninterrupted run's would, but for the fields named in TIMES. Each row that was written
goes on to the sinks: see runs.sinks.
"""

import json
from pathlib import Path
from typing import Any, Mapping, Protocol, Sequence

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
        self._sinks = sinks
        kept = read(path)
        if start_step is not None:
            kept = [row for row in kept if row["step"] <= start_step and start_step]
        text = "".join(json.dumps(r) + "\n" for r in kept)
        directory.patiently(lambda: directory.write_atomic(path, text), patience)
        self._file = directory.Growing(path, patience)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, and hand it on.

        Raises:
          UserError: the disk does not take it.
        """
        self._file.add((json.dumps(row) + "\n").encode())
        for sink in self._sinks:
            sink.write(row)

    def sync(self) -> None:
        """Make sure that what was written outlives a loss of power."""
        self._file.sync()

    def close(self) -> None:
        self._file.close()


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
