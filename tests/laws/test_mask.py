"""THE MASK LAW: a batch with nothing to train on is an error that names its step, the
trained share is reported, and what has no weight changes neither loss nor gradient;
nor does going through the vocabulary in chunks.
"""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.model import transformer
from genlm.runs import metrics
from genlm.runs.metrics import Log
from genlm.runs.saving import Checkpoints
from genlm.train import loop, losses, optimizer, spikes, state, step
from tests.laws.families import BASE, FAMILIES, alone, weights

NUM_STEPS = 3
LENGTH = 16
TEXTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [11, 12, 13], [14] * 17, [15, 16]]
TRAINED = 9 + 2 + 16 + 1
EVERY_ROW = slice(None)
SHALLOW = dataclasses.replace(BASE, num_layers=1)


@functools.cache
def _training() -> tuple[state.TrainState, step.TrainStep]:
    """A state to begin from, and a compiled step."""
    config = optimizer.OptimizerConfig(learning_rate=1e-3)
    specs = transformer.param_specs(SHALLOW)
    made = optimizer.make_optimizer(config, NUM_STEPS, specs)
    params = weights(SHALLOW)
    first = state.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=jax.jit(made.init)(params),
        key=jax.random.PRNGKey(0),
        extra={"losses_W": spikes.empty()},
    )
    train_step = step.make_train_step(
        losses.make_next_token_loss(SHALLOW),
        made,
        optimizer.make_schedule(config, NUM_STEPS),
    )
    return first, jax.jit(train_step)


def _train(workdir: Path, batches: list) -> list[dict]:
    """Train on `batches` through the loop; the rows that it logged."""
    first, train_step = _training()
    log = Log(workdir / "metrics.jsonl")
    with Checkpoints(workdir, start_step=0, keep_last=1, keep_best=False) as saved:
        loop.train(
            first,
            train_step,
            iter(batches),
            loop.LoopConfig(num_steps=NUM_STEPS, log_every=1, save_every=NUM_STEPS),
            log=log,
            journal=Log(workdir / "events.jsonl", None),
            checkpoints=saved,
        )
    log.close()
    return metrics.read(workdir / "metrics.jsonl")


def _masked(batch: dict, rows: list[int] | slice) -> dict:
    """`batch` with no weight in `rows`."""
    weights_BT = batch["weights"].copy()
    weights_BT[rows] = 0
    return batch | {"weights": weights_BT}


@pytest.mark.parametrize("empty", range(1, NUM_STEPS + 1))
def test_a_batch_with_nothing_to_train_on_is_an_error_that_names_its_step(
    empty: int, tmp_path
):
    batches = [alone(TEXTS, LENGTH)] * (NUM_STEPS + 1)
    batches[empty - 1] = _masked(batches[0], EVERY_ROW)
    with pytest.raises(UserError, match=f"^step {empty}: .*no token to train on"):
        _train(tmp_path, batches)


def test_the_trained_share_is_reported(tmp_path):
    batch = alone(TEXTS, LENGTH)
    batches = [batch, _masked(batch, [2]), _masked(batch, [0, 1, 2]), batch]
    rows = _train(tmp_path, batches)
    slots = len(TEXTS) * LENGTH
    shares = [row["trained_share"] for row in rows]
    np.testing.assert_allclose(shares, [TRAINED / slots, 12 / slots, 1 / slots])


@functools.partial(jax.jit, static_argnames=("config", "vocab_chunk"))
def _loss_and_gradient(params, batch, config, vocab_chunk: int):
    loss = losses.make_next_token_loss(config, vocab_chunk)
    return jax.value_and_grad(loss, has_aux=True)(params, None, batch, None)


@pytest.mark.parametrize("vocab_chunk", [0, 13])
def test_a_target_without_weight_changes_neither_loss_nor_gradient(vocab_chunk: int):
    batch = _masked(alone(TEXTS, LENGTH), [1])
    other = np.where(batch["weights"] == 0, 60 - batch["targets"], batch["targets"])
    assert np.any(other != batch["targets"])
    results = [
        _loss_and_gradient(weights(BASE), changed, BASE, vocab_chunk)
        for changed in (batch, batch | {"targets": other})
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_pad_is_never_learnt_from():
    config = FAMILIES["untied_relu2"]  # so that an input is not an output too
    pad = 60
    batch = alone(TEXTS, LENGTH, pad=pad)
    _, gradient = _loss_and_gradient(weights(config), batch, config, 0)
    of_token_V = np.abs(gradient["embedding"]).max(axis=-1)
    assert of_token_V[pad] == 0 and of_token_V[1] > 0


@pytest.mark.parametrize("family", ["mha_swiglu_tied", "untied_relu2"])
def test_the_loss_in_chunks_is_the_loss(family: str):
    config = FAMILIES[family]
    batch = alone(TEXTS, LENGTH)
    (loss, _), gradient = _loss_and_gradient(weights(config), batch, config, 0)
    (chunked, _), chunked_gradient = _loss_and_gradient(
        weights(config), batch, config, 13
    )
    assert math.isclose(chunked / TRAINED, loss / TRAINED, abs_tol=1e-4)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-4, rtol=1e-4),
        chunked_gradient,
        gradient,
    )


@pytest.mark.parametrize("vocab_chunk", [1, 7, 60, 61, 1000])
def test_log_probs_in_chunks_are_the_log_probs(vocab_chunk: int):
    V = BASE.vocab_size
    rng = np.random.default_rng(0)
    hidden_BTD = jnp.asarray(rng.standard_normal((2, 5, BASE.model_dim)), jnp.float32)
    targets_BT = jnp.asarray([[0, 1, 2, V - 1, V - 2], [5, 60, 59, 58, 30]])
    cotangent_BT = jnp.asarray(rng.standard_normal((2, 5)), jnp.float32)

    @functools.partial(jax.jit, static_argnums=1)
    def read(w_VD, vocab_chunk):
        def logprobs(w_VD, hidden_BTD):
            return losses.token_logprobs(
                {"embedding": w_VD}, hidden_BTD, targets_BT, BASE, vocab_chunk
            )

        value, pull = jax.vjp(logprobs, w_VD, hidden_BTD)
        return value, pull(cotangent_BT)

    w_VD = 3 * weights(BASE)["embedding"]
    chunked, whole = read(w_VD, vocab_chunk), read(w_VD, 0)
    assert np.min(whole[0]) < -10 and np.all(whole[0] <= 0)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-4), chunked, whole
    )
