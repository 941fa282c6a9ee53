"""THE COPIER: checkpoints go to their copy while training goes on.

Before: a checkpoint that counts. After: runs.remote. Training never waits for it: where
the way is slow, the newest checkpoint goes next; the end of the run copies the rest.
"""

import contextlib
from pathlib import Path
import threading
from typing import Callable

from genlm.errors import UserError
from genlm.runs import remote

_SILENT = 2.0  # seconds that the end may take without a word


class Copier:
    """Within it a thread pushes what is added; leaving it waits for the last one.

    Args:
      to: '' copies nothing.
      on_failure: told a step that could not be copied, and why.
    """

    def __init__(self, workdir: Path, to: str, on_failure: Callable[[int, str], None]):
        self._workdir, self._to, self._on_failure = workdir, to, on_failure
        self._waiting: int | None = None
        self._going: int | None = None
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Copier":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join(_SILENT)
        if self._thread.is_alive():
            print(f"copying to {self._to}", flush=True)
            self._thread.join()

    def add(self, step: int) -> None:
        """Copy checkpoint `step` next."""
        if self._to:
            with self._changed:
                self._waiting = step
                self._changed.notify()

    def holds(self, step: int) -> bool:
        """Whether the files of `step` are still needed."""
        with self._changed:
            return step in (self._waiting, self._going)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting is not None or self._is_over
                )
                if self._waiting is None:
                    return
                step = self._going = self._waiting
                self._waiting = None
            try:
                remote.push(self._workdir, step, self._to)
            except UserError as error:  # the run itself is whole
                with contextlib.suppress(UserError):  # a full disk
                    self._on_failure(step, str(error))
            with self._changed:
                self._going = None
