"""The loop between two steps."""

import dataclasses
import itertools
import signal
import time

import jax
import jax.numpy as jnp
import pytest

from genlm.errors import Stopped
from genlm.runs import checkpoint, metrics
from genlm.runs.metrics import Log
from genlm.runs.saving import Checkpoints
from genlm.train import loop
from genlm.train.guard import GuardConfig
from genlm.train.state import TrainState


@jax.jit
def _step(state, batch, frozen):
    one = jnp.ones(())
    metrics = {"loss": one, "gradient_norm": one, "weight": one, "spike": 0 * one}
    return dataclasses.replace(state, step=state.step + 1), metrics


def train(
    folder, config: loop.LoopConfig, hook, tokens=0, train_step=_step, every=2
) -> None:
    state = TrainState(
        jnp.zeros((), jnp.int32), {"w": jnp.ones(8)}, (), jax.random.PRNGKey(0)
    )
    with Checkpoints(folder, start_step=0, keep_last=1, keep_best=False) as checkpoints:
        loop.train(
            state,
            train_step,
            itertools.repeat({}),
            config,
            log=Log(folder / "metrics.jsonl"),
            journal=Log(folder / "events.jsonl", None),
            checkpoints=checkpoints,
            hooks=(loop.Hook(every, hook, Log(folder / "samples.jsonl")),),
            tokens=tokens,
        )


def test_a_signal_in_the_last_step_stops_what_would_come_after(tmp_path):
    def stop(params, step):
        signal.raise_signal(signal.SIGTERM)
        return {}

    with pytest.raises(Stopped, match="SIGTERM at step 2"):
        train(tmp_path, loop.LoopConfig(num_steps=2, log_every=1, save_every=2), stop)
    assert checkpoint.newest(tmp_path) == 2


def test_hooks_and_compiling_are_not_in_tokens_a_second(tmp_path):
    def slow(params, step):
        time.sleep(0.5)
        return {}

    train(tmp_path, loop.LoopConfig(num_steps=8, log_every=4, save_every=8), slow)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    rates = [row["tokens_per_second"] for row in rows if "loss" in row]
    # a token a step: with two hooks of half a second in four steps it would be below 4
    assert len(rates) == 2 and min(rates) > 8


@pytest.mark.parametrize("before, counted", [(0, [2, 4]), (7, [9, 11])])
def test_tokens_are_counted_from_what_came_before(tmp_path, before, counted):
    config = loop.LoopConfig(num_steps=4, log_every=2, save_every=4)
    train(tmp_path, config, lambda params, step: {}, before)  # a token a step
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["tokens"] for row in rows if "tokens" in row] == counted
    assert checkpoint.tokens(tmp_path, 4) == (counted[-1])


def test_a_trace_of_the_steps_that_were_asked_for(tmp_path):
    config = loop.LoopConfig(4, log_every=4, save_every=4, profile_steps=(2, 3))
    train(tmp_path, config, lambda params, step: {})
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size


def test_a_signal_goes_before_a_rewind(tmp_path):
    def step(state, batch, frozen):
        if int(state.step) == 3:
            signal.raise_signal(signal.SIGTERM)
        state, metrics = _step(state, batch, frozen)
        return state, {**metrics, "spike": jnp.where(state.step == 3, 9.0, 0.0)}

    guard = GuardConfig(spike=5.0, max_rewinds=1)
    config = loop.LoopConfig(9, log_every=1, save_every=9, guard=guard, rewinds_left=1)
    with pytest.raises(Stopped, match="SIGTERM.*the newest checkpoint is from before"):
        train(tmp_path, config, lambda params, step: {}, train_step=step)
    (event,) = metrics.read(tmp_path / "events.jsonl")
    assert (event["event"], event["step"]) == ("loss spike", 3)
