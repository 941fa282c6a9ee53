"""PROGRESS: what long work shows: how far, how fast, how long still.

On a terminal a bar; elsewhere a plain line every few seconds.
"""

import contextlib
import sys
import time
from typing import Iterable, Iterator, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
_EVERY = 10.0  # seconds between plain lines


class Bar:
    """A context manager: `update(n, note)` as the work goes on.

    `total` may be None where it is not known.
    """

    def __init__(self, title: str, total: int | None, start: int = 0, unit: str = ""):
        self._title, self._total, self._unit = title, total, unit
        self._start, self._begun = start, time.monotonic()
        self._said = self._begun
        self._rich: Progress | None = None
        if sys.stderr.isatty():
            self._rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),  # what the others leave
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._rich.add_task(
                title, total=total, completed=start, note=""
            )

    def __enter__(self) -> "Bar":
        if self._rich:
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich:
            self._rich.stop()

    def update(self, completed: int, note: str = "") -> None:
        """Say that `completed` of the total are done."""
        if self._rich:
            rate = self._rate(completed)
            note = note or (f"{rate:,.0f} {self._unit}/s" if self._unit else "")
            self._rich.update(self._task, completed=completed, note=note)
        elif time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            print(self._line(completed, note), file=sys.stderr, flush=True)

    def _rate(self, completed: int) -> float:
        return (completed - self._start) / max(time.monotonic() - self._begun, 1e-9)

    def _line(self, completed: int, note: str) -> str:
        rate = self._rate(completed)
        text = f"{self._title}: {completed:,}"
        if self._total:
            left = (self._total - completed) / max(rate, 1e-9)
            text += f" of {self._total:,}, {_clock(left)} left"
        return f"{text}, {rate:,.1f} {self._unit or 'steps'}/s {note}".rstrip()


class Bars(contextlib.ExitStack):
    """A context manager: `report` shows a bar for each work that it is told of."""

    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit
        self._shown: tuple[str, int | None] = "", None

    def report(self, title: str, completed: int, total: int | None) -> None:
        """Say that `completed` of `total`, if that is known, are done."""
        if self._shown != (title, total):
            self.close()  # the bar before
            self._bar = self.enter_context(Bar(title, total, completed, self._unit))
            self._shown = title, total
        self._bar.update(completed)


def track(items: Iterable[T], title: str, total: int | None, unit: str) -> Iterator[T]:
    """`items`, with progress shown as they are taken."""
    with Bar(title, total, unit=unit) as bar:
        for done, item in enumerate(items):
            bar.update(done)
            yield item


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )
