"""The loop between two steps."""

import dataclasses
import itertools
import signal

import jax
import jax.numpy as jnp
import pytest

from genlm.errors import Stopped
from genlm.runs import checkpoint
from genlm.runs.metrics import Log
from genlm.train import loop
from genlm.train.state import TrainState


@jax.jit
def _step(state, batch, frozen):
    one = jnp.ones(())
    metrics = {"loss": one, "gradient_norm": one, "weight": one}
    return dataclasses.replace(state, step=state.step + 1), metrics


def test_a_signal_in_the_last_step_stops_what_would_come_after(tmp_path):
    state = TrainState(
        jnp.zeros((), jnp.int32), {"w": jnp.ones(8)}, (), jax.random.PRNGKey(0)
    )

    def stop(params):
        signal.raise_signal(signal.SIGTERM)
        return {}

    with checkpoint.Checkpoints(
        tmp_path, start_step=0, keep_last=1, keep_best=False
    ) as checkpoints:
        with pytest.raises(Stopped, match="SIGTERM at step 2"):
            loop.train(
                state,
                _step,
                itertools.repeat({}),
                loop.LoopConfig(num_steps=2, log_every=1, save_every=2),
                log=Log(tmp_path / "metrics.jsonl"),
                checkpoints=checkpoints,
                hooks=(loop.Hook(2, stop, Log(tmp_path / "samples.jsonl")),),
            )
    assert checkpoint.newest(tmp_path) == 2
