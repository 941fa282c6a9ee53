"""GROUPS: K answers to each of P prompts, and what the trainer sees of them.

Before: rollout. After: policy, critic. As in decoding, a prompt is read once, and each
of its answers goes on from a copy of its keys and values: gradients flow through the
copy. So a group costs one prompt and K answers, not K rows of both.

A batch has `prompts`: tokens, segments and positions [P, S], padded on the left; and
beside it arrays [B, A] of the answers' tokens, B = P · K, those of a prompt side by
side.
"""

from typing import Any

import jax
import jax.numpy as jnp

from genlm.model import transformer
from genlm.model.config import TransformerConfig

PROMPTS = "prompts"


def hidden(
    params: Any, batch: Any, model: TransformerConfig, key: jax.Array | None = None
) -> jax.Array:
    """hidden_BAD: the state that each token of an answer was drawn in.

    Args:
      batch: `prompts`; `targets` [B, A], what was drawn; `weights`, 0 after its end.
      key: for dropout; without one there is none.
    """
    prompts, drawn_BA = batch[PROMPTS], batch["targets"]
    P, S = prompts["tokens"].shape
    B, A = drawn_BA.shape
    keys = (None, None) if key is None else jax.random.split(key)
    empty = transformer.empty_cache(model, P, S + A - 1)
    read_PSD, _, cache = transformer.apply(
        params, prompts, model, cache=empty, key=keys[0]
    )
    assert cache is not None
    first_B1D = jnp.repeat(read_PSD[:, -1:], B // P, axis=0)
    if A == 1:
        return first_B1D
    lengths_B = jnp.repeat(prompts["positions"][:, -1] + 1, B // P)
    answers = {
        "tokens": drawn_BA[:, :-1],
        "segments": (batch["weights"][:, :-1] > 0).astype(jnp.int32),
        "positions": lengths_B[:, None] + jnp.arange(A - 1),
    }
    rest_BaD, _, _ = transformer.apply(
        params, answers, model, cache=cache.repeated(B // P), key=keys[1]
    )
    return jnp.concatenate([first_B1D, rest_BaD], axis=1)


def folded(batch: Any) -> Any:
    """A batch whose arrays all begin with P, so that it is dealt out by prompts."""
    P = len(batch[PROMPTS]["tokens"])
    answers = {k: v for k, v in batch.items() if k != PROMPTS}
    folds = {k: v.reshape(P, -1, *v.shape[1:]) for k, v in answers.items()}
    return {PROMPTS: batch[PROMPTS], **folds}


def flat(batch: Any) -> Any:
    """What was folded."""
    answers = {k: v for k, v in batch.items() if k != PROMPTS}
    flats = {k: v.reshape(-1, *v.shape[2:]) for k, v in answers.items()}
    return {PROMPTS: batch[PROMPTS], **flats}


def first(batch: Any, count: int) -> Any:
    """The batch of the first `count` prompts."""
    return flat(jax.tree.map(lambda x: x[:count], folded(batch)))
