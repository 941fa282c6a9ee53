"""READINGS: a step's metrics, read one step late, checked, logged.

Before: what the train step returned. After: metrics.jsonl, and events.jsonl where
something went wrong. A checkpoint counts once the next step's loss and gradient, which
are computed from it, are finite: that is told to `confirm`.
"""

import contextlib
import math
import os
from pathlib import Path
import resource
import time
from typing import Any, Callable, Iterator

import jax
import numpy as np

from genlm.errors import UserError
from genlm.parallel.hosts import is_first
from genlm.runs.metrics import Log
from genlm.runs.progress import Bar
from genlm.train.guard import GuardConfig, Rewind


class Readings:
    """The metrics of a run, on their way from the device to the disk.

    Args:
      log_every: steps between rows.
      rewinds_left: how many spikes may still end in a Rewind.
      tokens: trained on before; the attribute counts on.
      confirm: told each step whose parameters have proven finite.
    """

    bar: Bar

    def __init__(
        self,
        *,
        log: Log,
        journal: Log,
        guard: GuardConfig,
        rewinds_left: int,
        log_every: int,
        num_steps: int,
        bytes_per_token: float,
        tokens: int,
        confirm: Callable[[int], None],
    ):
        self._log, self._journal = log, journal
        self._guard, self._rewinds_left = guard, rewinds_left
        self._log_every, self._num_steps = log_every, num_steps
        self._bytes_per_token, self._confirm = bytes_per_token, confirm
        self._pending: tuple[int, Any] | None = None
        self._begun = self._since = time.monotonic()
        self.tokens = tokens
        self._recent = 0.0  # tokens since then
        self._nonfinite = 0  # steps in a row
        self._is_first = True

    def add(self, step: int, metrics: Any) -> None:
        """`metrics` were dispatched; those before them are read now."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Read what is not read yet.

        Raises:
          UserError: a loss or gradient is not finite, more often than is allowed.
          Rewind: the loss spiked.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = self.check(step, metrics)
        if values is None:
            return
        self._check_spike(step, values)
        self._confirm(step - 1)
        self._recent += values["weight"]
        self.tokens += round(values["weight"])
        if step % self._log_every == 0 or step == self._num_steps:
            self._write(step, values)
        elif self._is_first:  # compiling it says nothing of the others' speed
            self._since, self._recent = time.monotonic(), 0.0
        self._is_first = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not counted into tokens a second."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

    def check(self, step: int, metrics: Any) -> dict[str, float] | None:
        """Metrics as floats; None where they are not finite and the step, as the guard
        allows, changed nothing."""
        values = {n: float(np.asarray(x)) for n, x in jax.device_get(metrics).items()}
        if values["weight"] == 0:
            raise UserError(f"step {step}: the batch has no token to train on")
        wrong = [
            n
            for n in ("weight", "loss", "gradient_norm")
            if not math.isfinite(values[n])
        ]
        if not wrong:
            self._nonfinite = 0
            return values
        why = f"{wrong[0]} is {values[wrong[0]]}"
        self._nonfinite += 1
        if self._nonfinite > self._guard.max_nonfinite:
            raise UserError(
                f"step {step}: {why}; the run stopped, and the last checkpoint is from"
                " before. A lower learning rate may help."
            )
        self._journal.write({"step": step, "event": "update left out", "why": why})
        return None

    def _check_spike(self, step: int, values: dict[str, float]) -> None:
        if not 0 < self._guard.spike < values["spike"]:
            return
        why = f"loss {values['loss']:.4g}, {values['spike']:.1f} spreads up"
        self._journal.write({"step": step, "event": "loss spike", "why": why})
        if self._rewinds_left > 0:
            raise Rewind(step)

    def _write(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        rate = self._recent / max(now - self._since, 1e-9)
        self._since, self._recent = now, 0.0
        row = {
            "step": step,
            "loss": values["loss"],
            **self._bits(values["loss"]),
            **{k: v for k, v in values.items() if k not in _APART},
            "tokens": self.tokens,
            "seconds": round(now - self._begun, 3),
            "tokens_per_second": round(rate, 1),
            "memory_mb": memory_mb(),
        }
        if is_first():
            self._log.write(row)
        self.bar.update(step, f"loss {row['loss']:.3f}, {rate:,.0f} tokens/s")

    def _bits(self, loss: float) -> dict[str, float]:
        """Bits a byte, where the tokens that are trained on spell text."""
        if math.isnan(self._bytes_per_token):
            return {}
        return {"bits_per_byte": loss / math.log(2) / self._bytes_per_token}


_APART = ("loss", "weight", "spike")  # not among the other values of a row


def memory_mb() -> float:
    """Memory in use: of the first device where it tells, else of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_in_use" in stats:
        return round(stats["bytes_in_use"] / 2**20, 1)
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
