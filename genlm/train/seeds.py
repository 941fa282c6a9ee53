"""THE LOOP OF SEVERAL SEEDS: one program trains them all.

The train step is mapped over a leading dim of the state and the batch (jax.vmap). Each
seed has its own logs, hooks and checkpoints, as train.loop would have written them; one
whose loss is not finite ends there, and the others go on.
"""

import dataclasses
from typing import Any, Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from genlm.errors import Stopped, UserError
from genlm.parallel import hosts
from genlm.runs.metrics import Log
from genlm.runs.progress import Bar
from genlm.runs.saving import Checkpoints
from genlm.train import loop
from genlm.train.guard import Watchdog
from genlm.train.readings import Readings
from genlm.train.state import TrainState
from genlm.train.step import TrainStep


class NotTogether(UserError):
    """The seeds cannot be trained as one program; one after the other they can."""


@dataclasses.dataclass
class Run:
    """What is written of one seed; `failure` says why it ended early, if it did."""

    journal: Log
    readings: Readings
    hooks: tuple[loop.Hook, ...]
    checkpoints: Checkpoints
    failure: str = ""


def compile_step(
    train_step: TrainStep, make_state: Callable[[Any], TrainState], seeds: Any, batch
) -> TrainStep:
    """The compiled step of all `seeds` [n]; `batch` is one of theirs, stacked.

    Raises:
      NotTogether: a device has not the memory that the compiled step says it needs.
    """
    state = jax.eval_shape(jax.vmap(make_state), seeds)
    mapped = jax.vmap(train_step, in_axes=(0, 0, None))
    compiled = jax.jit(mapped, donate_argnums=0).lower(state, batch, None).compile()
    told = compiled.memory_analysis()
    if told is not None:
        need = told.argument_size_in_bytes + told.temp_size_in_bytes
        try:
            hosts.require_memory(
                jax.ShapeDtypeStruct((need,), np.uint8),
                f"steps of {len(seeds)} seeds together",
                "fewer of them may fit",
            )
        except UserError as error:
            raise NotTogether(str(error)) from error
    return compiled


def stack(trees: Any) -> Any:
    """One tree whose arrays have a leading dim, an entry a tree."""
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)


def train(
    state: TrainState,
    step_together: TrainStep,
    batches: Iterator[Any],
    config: loop.LoopConfig,
    runs: list[Run],
) -> None:
    """Train every seed to config.num_steps; the results are the last checkpoints.

    Args:
      state, batches: with a leading dim of seeds, in the order of `runs`.

    Raises:
      Stopped: SIGTERM or SIGINT came; all states were saved first.
    """
    first = step = int(state.step[0])
    pending: tuple[int, Any] | None = None
    with loop.StopSignals() as signals, Bar(
        "train", config.num_steps, start=first
    ) as bar, Watchdog(
        config.guard, runs[0].journal, runs[0].checkpoints.workdir
    ) as watchdog:
        for run in runs:
            run.readings.bar = bar
        while step < config.num_steps and _going(runs):
            state, metrics = step_together(state, next(batches), None)
            step += 1
            _read(runs, pending)  # a step late, so that the device never waits
            pending = (step, metrics)
            if step > first + 1:
                watchdog.beat(step - 1)
            is_last = step == config.num_steps
            is_done = is_last or signals.received is not None
            is_saved = is_done or _is_owed(runs) or step % config.save_every == 0
            if is_saved or any(h.is_due(step, is_last) for h in runs[0].hooks):
                _read(runs, pending)
                pending = None
                with watchdog.paused():
                    _between(state, step, runs, is_last, is_saved, is_done)
            if is_done:
                break
        if step > first:
            with watchdog.paused():
                _prove(state, step, step_together, batches, runs)
    if signals.received is not None:
        raise Stopped(signals.received, step, len(_going(runs)) == len(runs))


def _is_owed(runs: list[Run]) -> bool:
    """Whether a save failed and it is time for another; a run that has no patience left
    ends there."""
    is_owed = False
    for _, run in _going(runs):
        try:
            is_owed |= run.checkpoints.is_owed()
        except UserError as error:
            run.failure = str(error)
    return is_owed


def _going(runs: list[Run]) -> list[tuple[int, Run]]:
    return [(i, run) for i, run in enumerate(runs) if not run.failure]


def _read(runs: list[Run], pending: tuple[int, Any] | None) -> None:
    """Check and log the metrics [seeds] of a step, those of each seed as its own."""
    if pending is None:
        return
    step, metrics = pending[0], jax.device_get(pending[1])
    for i, run in _going(runs):
        run.readings.add(step, {name: x[i] for name, x in metrics.items()})
        try:
            run.readings.flush()
        except UserError as error:
            run.failure = str(error)


def _between(
    state: TrainState,
    step: int,
    runs: list[Run],
    is_last: bool,
    is_saved: bool,
    is_done: bool,
) -> None:
    """What is measured and saved of each seed after `step`; one that cannot be written
    ends there."""
    for i, run in _going(runs):
        own = jax.tree.map(lambda x: x[i], state)
        scores: dict[str, Any] = {}
        try:
            for hook in (h for h in run.hooks if h.is_due(step, is_last)):
                row = hook.run(loop.model_params(own), step)
                scores |= row
                hook.log.write({"step": step, **row})
            if is_saved:
                for log in (run.journal, *(hook.log for hook in run.hooks)):
                    log.sync()
                score = scores.get("valid_loss"), run.readings.tokens
                loop.save(run.checkpoints, step, own, *score, is_last=is_done)
        except UserError as error:
            run.failure = str(error)


def _prove(
    state: TrainState,
    step: int,
    step_together: TrainStep,
    batches: Iterator[Any],
    runs: list[Run],
) -> None:
    """Confirm the last checkpoints by a step that is thrown away; one in which a seed
    leaves its batch out proves nothing of it."""
    unproven = _going(runs)
    while unproven:
        state, metrics = step_together(state, next(batches), None)
        values = jax.device_get(metrics)
        left = []
        for i, run in unproven:
            try:
                own = {name: x[i] for name, x in values.items()}
                if run.readings.check(step + 1, own) is None:
                    left.append((i, run))
                    continue
                run.checkpoints.confirm(step)
                run.checkpoints.wait()
            except UserError as error:
                run.failure = str(error)
        unproven = left
