"""GUARD: what a long run lives through, within bounds, and how it says so.

What happened goes to events.jsonl, a journal that is only ever added to. A rewind is an
exception: the stage that catches it goes on from an older checkpoint, without the
batches that `Rewind` tells of.
"""

import contextlib
import dataclasses
import faulthandler
import os
from pathlib import Path
import sys
import threading
import time
from typing import Iterator

from genlm.errors import UserError
from genlm.runs.metrics import Log

_LAST = 10  # so many times `stall_seconds` without a step, and the process ends
_YEAR = 366 * 86_400.0  # seconds
_EXIT = 75  # EX_TEMPFAIL of sysexits.h: another try may do


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """Bounds; 0 turns each thing off."""

    spike: float = 0.0  # a loss so many spreads above the median; see train.spikes
    max_rewinds: int = 0  # of the whole run, after spikes
    rewind_skips: int = 2  # batches left out then, from the one before the spike
    max_nonfinite: int = 0  # steps in a row that change nothing, their gradient being
    # infinite or NaN
    stall_seconds: float = 0.0  # without a batch: read again; without a step: say so
    disk_seconds: float = 0.0  # a write that fails is tried again for so long

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) >= 0:
                raise UserError(f"guard.{field.name} is below 0")
        for name in ("stall_seconds", "disk_seconds"):
            if getattr(self, name) > _YEAR:  # the system's waits have an end
                raise UserError(f"guard.{name} is over a year; 0 turns it off")
        if self.max_rewinds and (self.spike == 0 or self.rewind_skips < 2):
            raise UserError(
                "guard.max_rewinds needs guard.spike, and rewind_skips of 2 or more:"
                " the batch before a spike, and the spike's own"
            )


class Rewind(Exception):
    """The loss spiked at `step`: go back, and leave its batch out."""

    def __init__(self, step: int):
        super().__init__(f"rewind from step {step}")
        self.step = step


class Watchdog:
    """Within it a thread notices that no step ends for `stall_seconds`: an event, and
    where each thread was in stacks.txt. After ten times as long (and the time that a
    full disk is waited for) the process ends, with its last checkpoint whole, since
    what hangs in a device cannot be interrupted."""

    def __init__(self, guard: GuardConfig, journal: Log, folder: Path):
        self._seconds, self._journal, self._folder = (
            guard.stall_seconds,
            journal,
            folder,
        )
        self._limit = _LAST * guard.stall_seconds + guard.disk_seconds
        self._step, self._since = 0, time.monotonic()
        self._is_paused = True
        self._end = threading.Event()

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def beat(self, step: int) -> None:
        """`step` has ended; the first beat starts the watch."""
        self._step, self._since, self._is_paused = step, time.monotonic(), False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in which no step is due."""
        before, self._is_paused = self._is_paused, True
        yield
        self._since, self._is_paused = time.monotonic(), before

    def _watch(self) -> None:
        said = 0.0
        while not self._end.wait(self._seconds / 10):
            silence = 0.0 if self._is_paused else time.monotonic() - self._since
            if silence >= self._seconds and said != self._since:
                said = self._since
                with contextlib.suppress(OSError, UserError):  # a full disk
                    self._say(silence)
            if silence >= self._limit:
                line = f"genlm run: no step ended for {silence:.0f} seconds"
                print(f"{line}; start it again, it goes on", file=sys.stderr)
                sys.stderr.flush()
                os._exit(_EXIT)

    def _say(self, silence: float) -> None:
        with open(self._folder / "stacks.txt", "a", encoding="utf-8") as file:
            faulthandler.dump_traceback(file)
        row = {"step": self._step, "event": "stall", "seconds": round(silence, 1)}
        self._journal.write({**row, "why": "no step ended; see stacks.txt"})
