"""THE LOOP: steps, and what happens between them.

Before: a train step and batches. After: checkpoints, metrics and samples on disk. What
the loop needs from higher rooms (validation, sampling) is handed in as hooks. A step's
metrics are read after the next step is dispatched, so the device never waits for the
host. The state at a checkpoint counts once the next step's loss and gradient, which
are computed from it, are finite; after the last step one more is computed and thrown
away to prove it.
"""

import contextlib
import dataclasses
import math
import os
from pathlib import Path
import resource
import signal
import time
from typing import Any, Callable, Iterator

import jax
import numpy as np

from genlm.errors import Stopped, UserError
from genlm.parallel.hosts import is_first
from genlm.runs.checkpoint import Checkpoints
from genlm.runs.metrics import Log
from genlm.runs.progress import Bar
from genlm.train.state import TrainState
from genlm.train.step import TrainStep


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long, and how often."""

    num_steps: int
    log_every: int
    save_every: int


@dataclasses.dataclass(frozen=True)
class Hook:
    """Every so many steps (0: never) and after the last, `run(params)` gives a row for
    `log`; it sees the parameters only."""

    every: int
    run: Callable[[Any], dict[str, Any]]
    log: Log


class StopSignals:
    """Within it SIGTERM and SIGINT set `received`; a second SIGINT interrupts."""

    received: int | None = None

    def __enter__(self) -> "StopSignals":
        self._old = {
            n: signal.signal(n, self._receive) for n in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def train(
    state: TrainState,
    train_step: TrainStep,
    batches: Iterator[Any],
    config: LoopConfig,
    *,
    log: Log,
    checkpoints: Checkpoints,
    hooks: tuple[Hook, ...] = (),
    frozen: Any = None,
    bytes_per_token: float = math.nan,
    tokens: int | None = 0,
) -> None:
    """Train from state.step to config.num_steps; the result is the last checkpoint.

    Args:
      train_step: compiled; it may donate the state.
      batches: device batches, the first one that of state.step.
      bytes_per_token: turns nats a token into bits a byte.
      tokens: trained on before state.step; None: unknown, and not counted.

    Raises:
      UserError: a loss or gradient is not finite (names the step), a batch has no
        token to train on, or a disk is full.
      Stopped: SIGTERM or SIGINT came; the state was saved first.
    """
    first = step = int(state.step)
    reader = _Reader(log, config, checkpoints, bytes_per_token, tokens)
    with StopSignals() as signals, Bar(
        "train", config.num_steps, start=first
    ) as reader.bar:
        while step < config.num_steps:
            state, metrics = train_step(state, next(batches), frozen)
            step += 1
            reader.add(step, metrics)
            done = step == config.num_steps or signals.received is not None
            scores: dict[str, Any] = {}
            for hook in hooks:
                if hook.every and (step % hook.every == 0 or step == config.num_steps):
                    reader.flush()
                    with reader.paused():
                        row = hook.run(model_params(state))
                    scores |= row
                    hook.log.write({"step": step, **row})
            if done or step % config.save_every == 0:
                reader.flush()
                with reader.paused():
                    for each in [log] + [h.log for h in hooks]:
                        each.sync()
                    valid_loss = scores.get("valid_loss")
                    checkpoints.save(step, split(state), valid_loss, reader.tokens)
            if done:
                break
        if step > first:
            _, metrics = train_step(state, next(batches), frozen)
            reader.check(step + 1, jax.device_get(metrics))
            checkpoints.wait()
    if signals.received is not None:
        raise Stopped(signals.received, step)


def split(state: TrainState) -> dict[str, Any]:
    """A state as the two items of a checkpoint."""
    rest = {"step": state.step, "opt_state": state.opt_state, "key": state.key}
    if state.extra is not None:
        rest["extra"] = state.extra
    if state.ema is not None:
        rest["trained"] = state.params
    return {"params": model_params(state), "state": rest}


def join(items: dict[str, Any]) -> TrainState:
    """The state that `split` took apart."""
    params, rest = items["params"], dict(items["state"])
    if "trained" in rest:
        return TrainState(params=rest.pop("trained"), ema=params, **rest)
    return TrainState(params=params, **rest)


def model_params(state: TrainState) -> Any:
    """The parameters that are measured, written with and saved as the model's: their
    average, where one is kept."""
    return state.params if state.ema is None else state.ema


class _Reader:
    """Reads each step's metrics one step late, checks them, logs them."""

    bar: Bar

    def __init__(
        self,
        log: Log,
        config: LoopConfig,
        checkpoints: Checkpoints,
        bytes_per_token: float,
        tokens: int | None,
    ):
        self.tokens = tokens  # trained on since step 0
        self._log, self._config, self._checkpoints = log, config, checkpoints
        self._bytes_per_token = bytes_per_token
        self._pending: tuple[int, Any] | None = None
        self._begun = self._since = time.monotonic()
        self._recent = 0.0  # tokens since then
        self._is_first = True

    def add(self, step: int, metrics: Any) -> None:
        """`metrics` were dispatched; those before them are read now."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = self.check(step, jax.device_get(metrics))
        self._recent += values["weight"]
        if self.tokens is not None:
            self.tokens += round(values["weight"])
        if step % self._config.log_every == 0 or step == self._config.num_steps:
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

    def check(self, step: int, metrics: Any) -> dict[str, float]:
        """Metrics as floats; the parameters they came from are proven finite."""
        values = {name: float(np.asarray(x)) for name, x in metrics.items()}
        if values["weight"] == 0:
            raise UserError(f"step {step}: the batch has no token to train on")
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise UserError(
                    f"step {step}: {name} is {values[name]}; the run stopped, and the"
                    " last checkpoint is from before. A lower learning rate may help."
                )
        self._checkpoints.confirm(step - 1)
        return values

    def _write(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        rate = self._recent / max(now - self._since, 1e-9)
        self._since, self._recent = now, 0.0
        row = {
            "step": step,
            "loss": values["loss"],
            "bits_per_byte": values["loss"] / math.log(2) / self._bytes_per_token,
            **{k: v for k, v in values.items() if k not in ("loss", "weight")},
            **({} if self.tokens is None else {"tokens": self.tokens}),
            "seconds": round(now - self._begun, 3),
            "tokens_per_second": round(rate, 1),
            "memory_mb": memory_mb(),
        }
        if is_first():
            self._log.write(row)
        self.bar.update(step, f"loss {row['loss']:.3f}, {rate:,.0f} tokens/s")


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
