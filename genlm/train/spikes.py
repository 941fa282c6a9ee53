"""LOSS SPIKES: a loss beside those of the steps before it.

Part of the train step: the last WINDOW losses live in the train state, so that what a
resumed run notices is what an uninterrupted one would.
"""

import jax
import jax.numpy as jnp

WINDOW = 128
_NORMAL = 1.4826  # median absolute deviations to a normal distribution's deviation
_FLOOR = 1e-3  # of the median: no spread is taken for smaller


def empty() -> jax.Array:
    """losses_W before the first step; NaN where none was seen."""
    return jnp.full((WINDOW,), jnp.nan, jnp.float32)


def watch(losses_W: jax.Array, loss: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(losses_W with `loss`, how far it is above their median, in spreads).

    The spread is the median absolute deviation: what spikes does not widen it. The
    distance is 0 until the window is full, and a loss that is not finite is not kept.
    """
    median = _median(losses_W)
    spread = _NORMAL * _median(jnp.abs(losses_W - median))
    distance = (loss - median) / jnp.maximum(spread, _FLOOR * jnp.abs(median))
    is_known = jnp.isfinite(losses_W[0]) & jnp.isfinite(loss)  # the oldest of them
    kept_W = jnp.append(losses_W[1:], loss)
    losses_W = jnp.where(jnp.isfinite(loss), kept_W, losses_W)
    return losses_W, jnp.where(is_known, distance, 0.0)


def _median(x_W: jax.Array) -> jax.Array:
    """The mean of the two in the middle; jnp.median takes a second to compile."""
    middle = WINDOW // 2
    return jnp.mean(jnp.sort(x_W)[middle - 1 : middle + 1])
