"""PERPLEXITY: nats a token and bits a byte on held-out rows."""

import math
from typing import Any, Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

from genlm.errors import UserError
from genlm.train.losses import Loss


def make_validate(
    loss: Loss,
    batches: Callable[[], Iterable[Mapping[str, Any]]],
    bytes_per_token: float,
) -> Callable[[Any], dict[str, float]]:
    """A function of params: {'valid_loss': nats a token, 'valid_bits_per_byte'}.

    Sums are taken over all batches before the one division.
    """
    score = jax.jit(lambda params, batch: loss(params, None, batch, None)[1])

    def validate(params: Any) -> dict[str, float]:
        total = None
        for batch in batches():
            sums = score(params, batch)
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
        if total is None or float(total["weight"]) == 0:
            raise UserError("the validation set has no token to predict")
        nats = float(total["loss"]) / float(total["weight"])
        return {
            "valid_loss": nats,
            "valid_bits_per_byte": nats / math.log(2) / bytes_per_token,
        }

    return validate
