"""THE LOOP OF SEVERAL SEEDS: one program trains them all.

The train step is mapped over a leading dim of the state and the batch (jax.vmap). Each
seed has its own logs, hooks and checkpoints, as train.loop would have written them; one
whose loss is not finite ends there, and the others go on.
"""

import contextlib
import dataclasses
import math
import time
from typing import Any, Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from genlm.errors import Stopped, UserError
from genlm.parallel import hosts
from genlm.runs.checkpoint import Checkpoints
from genlm.runs.metrics import Log
from genlm.runs.progress import Bar
from genlm.train import loop
from genlm.train.state import TrainState
from genlm.train.step import TrainStep


class TooLarge(UserError):
    """The seeds do not fit on a device together."""


@dataclasses.dataclass
class Run:
    """What is written of one seed; `failure` says why it ended early, if it did."""

    log: Log
    hooks: tuple[loop.Hook, ...]
    checkpoints: Checkpoints
    failure: str = ""


def compile_step(
    train_step: TrainStep, make_state: Callable[[Any], TrainState], seeds: Any, batch
) -> TrainStep:
    """The compiled step of all `seeds` [n]; `batch` is one of theirs, stacked.

    Raises:
      TooLarge: a device has not the memory that the compiled step says it needs.
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
                "they are trained one after the other",
            )
        except UserError as error:
            raise TooLarge(str(error)) from error
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
    bytes_per_token: float,
) -> None:
    """Train every seed to config.num_steps; the results are the last checkpoints.

    Args:
      state, batches: with a leading dim of seeds, in the order of `runs`.

    Raises:
      Stopped: SIGTERM or SIGINT came; all states were saved first.
    """
    first = step = int(state.step[0])
    reader = _Reader(runs, config, bytes_per_token)
    with loop.StopSignals() as signals, Bar(
        "train", config.num_steps, start=first
    ) as reader.bar:
        while step < config.num_steps and reader.alive():
            state, metrics = step_together(state, next(batches), None)
            step += 1
            reader.add(step, metrics)
            is_last = step == config.num_steps
            is_saved = is_last or signals.received is not None
            is_saved = is_saved or step % config.save_every == 0
            if is_saved or any(_is_due(h, step, is_last) for h in runs[0].hooks):
                reader.flush()
                with reader.paused():
                    _between(state, step, runs, is_last, is_saved)
            if signals.received is not None:
                break
        if step > first and reader.alive():
            _, metrics = step_together(state, next(batches), None)
            reader.check(step + 1, jax.device_get(metrics))
            for _, run in reader.alive():
                run.checkpoints.wait()
    if signals.received is not None:
        raise Stopped(signals.received, step)


def _between(
    state: TrainState, step: int, runs: list[Run], is_last: bool, is_saved: bool
) -> None:
    """What is measured and saved of each seed after `step`."""
    for i, run in enumerate(runs):
        if run.failure:
            continue
        own = jax.tree.map(lambda x: x[i], state)
        scores: dict[str, Any] = {}
        for hook in run.hooks:
            if _is_due(hook, step, is_last):
                row = hook.run(loop.model_params(own))
                scores |= row
                hook.log.write({"step": step, **row})
        if is_saved:
            for log in [run.log] + [hook.log for hook in run.hooks]:
                log.sync()
            run.checkpoints.save(step, loop.split(own), scores.get("valid_loss"))


def _is_due(hook: loop.Hook, step: int, is_last: bool) -> bool:
    return bool(hook.every) and (is_last or step % hook.every == 0)


class _Reader:
    """Reads each step's metrics one step late, checks them, logs them, seed by seed."""

    bar: Bar

    def __init__(self, runs: list[Run], config: loop.LoopConfig, bytes_per_token):
        self._runs, self._config = runs, config
        self._bytes_per_token = bytes_per_token
        self._pending: tuple[int, Any] | None = None
        self._begun = self._since = time.monotonic()
        self._tokens = np.zeros(len(runs))

    def alive(self) -> list[tuple[int, Run]]:
        return [(i, run) for i, run in enumerate(self._runs) if not run.failure]

    def add(self, step: int, metrics: Any) -> None:
        """`metrics` were dispatched; those before them are read now."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = self.check(step, jax.device_get(metrics))
        self._tokens += values["weight"]
        if step % self._config.log_every == 0 or step == self._config.num_steps:
            self._write(step, values)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not counted into tokens a second."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

    def check(self, step: int, metrics: Any) -> dict[str, np.ndarray]:
        """Metrics [seeds]; what is finite proves the parameters it came from."""
        values = {name: np.asarray(x, np.float64) for name, x in metrics.items()}
        for i, run in self.alive():
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(values[name][i]):
                    run.failure = (
                        f"step {step}: {name} is {values[name][i]}; a lower learning"
                        " rate may help"
                    )
            if not run.failure:
                run.checkpoints.confirm(step - 1)
        return values

    def _write(self, step: int, values: dict[str, np.ndarray]) -> None:
        now = time.monotonic()
        rates = self._tokens / max(now - self._since, 1e-9)
        self._since, self._tokens = now, np.zeros(len(self._runs))
        for i, run in self.alive():
            own = {name: float(x[i]) for name, x in values.items()}
            loss = own.pop("loss")
            del own["weight"]
            run.log.write(
                {
                    "step": step,
                    "loss": loss,
                    "bits_per_byte": loss / math.log(2) / self._bytes_per_token,
                    **own,
                    "seconds": round(now - self._begun, 3),
                    "tokens_per_second": round(float(rates[i]), 1),
                    "memory_mb": loop.memory_mb(),
                }
            )
        mean = np.nanmean(values["loss"])
        self.bar.update(step, f"mean loss {mean:.3f}, {rates.sum():,.0f} tokens/s")
