"""THE LOSS OF A CLASSIFIER: cross-entropy of the class of each text, at its STOP.

Before: rows of stages.prepare_labelled, whose targets are classes where they have a
weight, and heads. After: train.step. Sums over texts, as in train.losses.
"""

from typing import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genlm.model import heads
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.train.losses import Loss

CLASS_WEIGHTS = ("none", "balanced")


def class_weights(counts: Sequence[int], kind: str) -> np.ndarray:
    """weights_C, float32, of classes of so many texts: 'none': 1 each; 'balanced': all
    classes weigh the same, and a text 1 on average, n / (C count)."""
    counts_C = np.asarray(counts, np.float32)
    if kind == "none":
        return np.ones_like(counts_C)
    return counts_C.sum() / (len(counts_C) * counts_C)


def make_class_loss(
    model: TransformerConfig, head: HeadConfig, weights_C: np.ndarray
) -> Loss:
    """Cross-entropy in nats of params {"model", "head"}, weighted by batch['weights']
    and the class; metrics['weight'] counts texts, whatever their classes weigh."""

    def class_loss(params, frozen, batch, key):
        del frozen
        outputs_BTC = heads.outputs(params, batch, model, head, key)
        # where nothing is trained the target is a token, which may be no class
        is_class_BTC = jax.nn.one_hot(batch["targets"], len(head.labels))
        nats_BTC = -jax.nn.log_softmax(outputs_BTC) * is_class_BTC
        nats_BT = jnp.sum(nats_BTC * weights_C, axis=-1)
        loss = jnp.sum(nats_BT * batch["weights"])
        return loss, {"loss": loss, "weight": jnp.sum(batch["weights"])}

    return class_loss
