"""THE TRAIN STEP: one pure function (state, batch, frozen) -> (state, metrics).

Before: batches and a loss. After: the loop. Gradients of microbatches are added as
sums and divided once by the trained weight of the whole batch, so that accumulation,
like the mesh, changes nothing but memory.
"""

import dataclasses
from typing import Any, Callable

import jax
import jax.numpy as jnp
import optax

from genlm.train import spikes
from genlm.train.losses import Batch, Loss, Metrics
from genlm.train.state import TrainState

TrainStep = Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]


def make_train_step(
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: optax.Schedule,
    *,
    num_microbatches: int = 1,
    ema_decay: float = 0.0,
    skip_nonfinite: bool = False,
    trained: Any = None,
) -> TrainStep:
    """The step; jit it with the state donated.

    A state that has an average of its parameters (state.ema) keeps it: `ema_decay` of
    what it was, and less of it in the first steps, min(ema_decay, (1 + n) / (10 + n)).

    Its metrics are float32 scalars: those of the loss a trained token, 'weight'
    (trained tokens), 'trained_share' (of all token slots), 'gradient_norm' (of trained
    parameters, before clipping), 'learning_rate' and 'spike' (see train.spikes).

    Args:
      skip_nonfinite: a step whose loss or gradient is infinite or NaN changes nothing
        but its number.
      trained: a tree like the parameters', false at those that stay as they are: no
        gradient is computed for them. None: all are trained.
    """
    if trained is not None:
        loss = frozen_where_not(trained, loss)

    def train_step(state: TrainState, batch: Batch, frozen: Any = None):
        key = jax.random.fold_in(state.key, state.step)
        gradients, sums = summed_gradients(
            loss, state.params, frozen, batch, key, num_microbatches
        )
        weight = sums.pop("weight")
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        updates, opt_state = optimizer.update(
            gradients, state.opt_state, state.params, step=state.step
        )
        metrics = {name: total / weight for name, total in sums.items()}
        metrics |= {
            "weight": weight,
            "trained_share": jnp.mean(batch["weights"]),
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        losses_W, metrics["spike"] = spikes.watch(
            state.extra["losses_W"], metrics["loss"]
        )
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            kept = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema = optax.incremental_update(params, ema, 1.0 - kept)
        changed = params, opt_state, ema
        if skip_nonfinite:
            is_finite = jnp.isfinite(metrics["loss"] + metrics["gradient_norm"])
            before = state.params, state.opt_state, state.ema
            changed = jax.tree.map(
                lambda new, old: jnp.where(is_finite, new, old), changed, before
            )
        params, opt_state, ema = changed
        new = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            ema=ema,
            extra={**state.extra, "losses_W": losses_W},
        )
        return new, metrics

    return train_step


def frozen_where_not(trained: Any, loss: Loss) -> Loss:
    """The loss, constant in the parameters at which the tree `trained` is false."""

    def with_frozen(params, *rest):
        stopped = jax.tree.map(
            lambda p, is_trained: p if is_trained else jax.lax.stop_gradient(p),
            params,
            trained,
        )
        return loss(stopped, *rest)

    return with_frozen


def summed_gradients(loss, params, frozen, batch, key, num_microbatches: int):
    """Gradients and metrics of the summed loss, over microbatches in turn."""
    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    if num_microbatches == 1:
        (_, sums), gradients = value_and_grad(params, frozen, batch, key)
        return gradients, sums

    def add(total, microbatch):
        number, rows = microbatch
        (_, sums), gradients = value_and_grad(
            params, frozen, rows, jax.random.fold_in(key, number)
        )
        return jax.tree.map(jnp.add, total, (gradients, sums)), None

    # rows are dealt out in turn, so that every device keeps a share of each microbatch
    micro = jax.tree.map(
        lambda x: x.reshape(-1, num_microbatches, *x.shape[1:]).swapaxes(0, 1), batch
    )
    shapes = jax.eval_shape(
        value_and_grad, params, frozen, jax.tree.map(lambda x: x[0], micro), key
    )
    (_, sums), gradients = shapes
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (gradients, sums))
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(num_microbatches), micro))
    return total
