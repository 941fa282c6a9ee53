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
import signal
import time
from typing import Any, Callable, Iterator

from genlm.errors import Stopped
from genlm.parallel import hosts
from genlm.runs.metrics import Log
from genlm.runs.progress import Bar
from genlm.runs.saving import Checkpoints
from genlm.train.guard import GuardConfig, Rewind, Watchdog
from genlm.train.profile import Profile
from genlm.train.readings import Readings
from genlm.train.state import TrainState
from genlm.train.step import TrainStep


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long, and how often."""

    num_steps: int
    log_every: int
    save_every: int
    guard: GuardConfig = GuardConfig()
    rewinds_left: int = 0  # of guard.max_rewinds
    profile_steps: tuple[int, ...] = (0, 0)  # (first, last) that are traced


@dataclasses.dataclass(frozen=True)
class Hook:
    """Every so many steps (0: never) and after the last, `run(params, step)` gives a
    row for `log`, or an empty one. After a resume it runs again at the same steps."""

    every: int
    run: Callable[[Any, int], dict[str, Any]]
    log: Log

    def is_due(self, step: int, is_last: bool) -> bool:
        return bool(self.every) and (step % self.every == 0 or is_last)


# experience(state, batch) -> (the batch to train on, what is to be said of it)
Experience = Callable[[TrainState, Any], tuple[Any, dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class Probe:
    """Every so many steps (0: never), and in the first, `run(state, batch)` gives a row
    for `log` about the step that is about to be taken."""

    every: int
    run: Callable[[TrainState, Any], dict[str, Any]]
    log: Log

    def is_due(self, step: int) -> bool:
        return bool(self.every) and (step % self.every == 0 or step == 1)


class StopSignals:
    """Within it SIGTERM and SIGINT set `received`; a second SIGINT interrupts. A signal
    goes before a rewind. Several processes hear of SIGTERM together."""

    received: int | None = None

    def __enter__(self) -> "StopSignals":
        ours = () if hosts.are_several() else (signal.SIGTERM, signal.SIGINT)
        self._old = {n: signal.signal(n, self._receive) for n in ours}
        return self

    def came(self, step: int) -> bool:
        """Whether to end after this step."""
        if hosts.should_stop(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def __exit__(self, kind: Any, *_: object) -> bool:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        return kind is Rewind and self.received is not None

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
    journal: Log,
    checkpoints: Checkpoints,
    hooks: tuple[Hook, ...] = (),
    probe: Probe | None = None,
    experience: Experience | None = None,
    frozen: Any = None,
    bytes_per_token: float = math.nan,
    tokens: int = 0,
) -> None:
    """Train from state.step to config.num_steps; the result is the last checkpoint.

    Args:
      train_step: compiled; it may donate the state.
      batches: device batches, the first one that of state.step.
      experience: makes of a batch, with the state, the one that is trained on: a
        policy's own answers. What it says stands among the step's metrics.
      journal: gets a row for each thing that went wrong and was lived through.
      bytes_per_token: turns nats a token into bits a byte; NaN: there are none.
      tokens: trained on before state.step.

    Raises:
      UserError: a loss or gradient is not finite (names the step), a batch has no
        token to train on, or a disk is full.
      Rewind: the loss spiked; go on from the newest checkpoint, without its batch.
      Stopped: SIGTERM or SIGINT came; the state was saved first, unless it spiked.
    """
    first = step = int(state.step)
    is_proven = False
    readings = Readings(
        log=log,
        journal=journal,
        guard=config.guard,
        rewinds_left=config.rewinds_left,
        log_every=config.log_every,
        num_steps=config.num_steps,
        bytes_per_token=bytes_per_token,
        tokens=tokens,
        confirm=checkpoints.confirm,
    )
    logs = [log, journal, *(hook.log for hook in hooks)]
    if probe is not None:
        logs.append(probe.log)
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        readings.bar = stack.enter_context(Bar("train", config.num_steps, start=first))
        folder = checkpoints.workdir
        watchdog = Watchdog(config.guard, journal, folder)
        stack.enter_context(watchdog)
        profile = stack.enter_context(Profile(config.profile_steps, folder))

        @contextlib.contextmanager
        def paused() -> Iterator[None]:
            readings.flush()
            with readings.paused(), watchdog.paused():
                yield

        while step < config.num_steps:
            batch = next(batches)
            profile.before(step + 1)
            said: dict[str, float] = {}
            if experience is not None:
                with watchdog.paused():
                    batch, said = experience(state, batch)
            if probe is not None and probe.is_due(step + 1):
                with paused():
                    probe.log.write({"step": step + 1, **probe.run(state, batch)})
            state, metrics = train_step(state, batch, frozen)
            step += 1
            readings.add(step, {**metrics, **said})
            if step > first + 1:  # the one before has ended, so all is compiled
                watchdog.beat(step - 1)
            profile.after(step, metrics)
            is_last = step == config.num_steps
            is_done = signals.came(step) or is_last
            scores: dict[str, Any] = {}
            for hook in (h for h in hooks if h.is_due(step, is_last)):
                with paused():
                    row = hook.run(model_params(state), step)
                scores |= row
                if row:
                    hook.log.write({"step": step, **row})
            if is_done or step % config.save_every == 0 or checkpoints.is_owed():
                with paused():
                    for each in logs:
                        each.sync()
                    score = scores.get("valid_loss"), readings.tokens
                    save(checkpoints, step, state, *score, is_last=is_done)
            if is_done:
                break
        if step > first:
            if experience is not None:
                batches = (experience(state, each)[0] for each in batches)
            _prove(state, train_step, batches, frozen, readings, step)
            checkpoints.confirm(step)
            with watchdog.paused():
                checkpoints.wait()
        is_proven = True
    if signals.received is not None:
        raise Stopped(signals.received, step, is_proven)


def save(
    checkpoints: Checkpoints,
    step: int,
    state: TrainState,
    valid_loss: float | None,
    tokens: int,
    *,
    is_last: bool,
) -> None:
    """Begin to save; the last one is waited for, since no later step could be saved in
    its place."""
    checkpoints.save(step, split(state), valid_loss, tokens)
    while is_last and not checkpoints.written():
        time.sleep(1.0)
        checkpoints.save(step, split(state), valid_loss, tokens)


def _prove(
    state: TrainState,
    train_step: TrainStep,
    batches: Iterator[Any],
    frozen: Any,
    readings: Readings,
    step: int,
) -> None:
    """Compute a loss and a gradient from `state`; a batch that is left out proves
    nothing, and the next is tried."""
    values = None
    while values is None:
        state, metrics = train_step(state, next(batches), frozen)
        values = readings.check(step + 1, metrics)


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
