"""PROFILE: a trace of a few steps, for TensorBoard's profiler or Perfetto."""

from pathlib import Path
from typing import Any

import jax


class Profile:
    """A context manager; `before` and `after` each step. The trace is in the folder
    profile/ of the run.

    Args:
      steps: (first, last) step to trace; they count from 1.
    """

    def __init__(self, steps: tuple[int, ...], workdir: Path):
        self._steps, self._folder = steps, workdir / "profile"
        self._is_on = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            self._is_on = False
            jax.profiler.stop_trace()

    def before(self, step: int) -> None:
        """`step` is about to be dispatched."""
        if step == self._steps[0]:
            jax.profiler.start_trace(self._folder)
            self._is_on = True

    def after(self, step: int, metrics: Any) -> None:
        """`step` was dispatched; its `metrics` tell when the device is done."""
        if self._is_on and step == self._steps[1]:
            jax.block_until_ready(metrics)
            self.__exit__()
