"""UPDATES OF A ROUND: one batch of rollouts, several small steps.

Before: a train step of a minibatch. After: the loop, to which a round is one step: so a
round is drawn from the state that a checkpoint has, and begins anew after a kill.
"""

import dataclasses

import jax
import jax.numpy as jnp

from genlm.train.step import TrainStep

_OF_ORDER = 7  # the key's own number, so that the order shares no chance with dropout


def make_round_step(
    train_step: TrainStep, num_epochs: int, num_minibatches: int
) -> TrainStep:
    """`train_step` on every minibatch of a batch, `num_epochs` times, in an order drawn
    anew each time; metrics are the means. The state's number rises by 1."""
    if num_epochs == num_minibatches == 1:
        return train_step

    def round_step(state, batch, frozen=None):
        first = state.step
        key = jax.random.fold_in(jax.random.fold_in(state.key, _OF_ORDER), first)
        P = len(batch["weights"])

        def update(state, ids_p):
            rows = jax.tree.map(lambda x: x[ids_p], batch)
            state, metrics = train_step(state, rows, frozen)
            return dataclasses.replace(state, step=first), metrics

        orders = jax.vmap(lambda k: jax.random.permutation(k, P))(
            jax.random.split(key, num_epochs)
        )
        ids_Up = orders.reshape(num_epochs * num_minibatches, -1)
        state, metrics = jax.lax.scan(update, state, ids_Up)
        state = dataclasses.replace(state, step=first + 1)
        return state, jax.tree.map(jnp.mean, metrics)

    return round_step
