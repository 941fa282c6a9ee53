"""THE CAUSALITY LAW, by gradients: no logit depends on a later token, on another
document of its row, on PAD, on another row, or on what lies outside its window; and
each does depend on its own token and on the earlier ones.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from genlm.model import transformer
from genlm.model.config import TransformerConfig
from tests.laws.families import (
    BASE,
    adapted,
    alone,
    assert_agree,
    every_adapted,
    every_family,
    logits,
    weights,
)

WINDOW = 8
DOCUMENTS = (8, 5, 7)  # their lengths in the first row; PAD after them
T = 24


def _batch() -> dict[str, np.ndarray]:
    """Documents packed into a row, and one that is longer than the window; each slot
    holds a token of its own, so that its embedding tells of that slot alone."""
    counts = (*DOCUMENTS, T - sum(DOCUMENTS))
    packed = np.repeat([1, 2, 3, 0], counts)
    places = np.concatenate([np.arange(n) for n in counts]) * (packed > 0)
    return {
        "tokens": np.arange(2 * T, dtype=np.int32).reshape(2, T),
        "segments": np.stack([packed, np.ones(T, int)]).astype(np.int32),
        "positions": np.stack([places, np.arange(T)]).astype(np.int32),
    }


@functools.partial(jax.jit, static_argnames="config")
def _influence(params, batch, config):
    """influence_BTCS: how much the logits at slot [B, T] move with the embedding that
    is read at slot [C, S] (the rows once more)."""
    B, T = batch["tokens"].shape
    direction_V = jax.random.normal(jax.random.PRNGKey(0), (config.vocab_size,))

    def read(embedding_VD):
        changed = {**params, "embedding": embedding_VD}
        hidden_BTD, _, _ = transformer.apply(changed, batch, config)
        logits_BTV = transformer.unembed(params, hidden_BTD, config)
        return logits_BTV @ direction_V

    # one cotangent after another: XLA:CPU (jaxlib 0.10) gets jacrev's vmap of a norm
    # over heads wrong from about a thousand rows on, see docs/log.md
    _, pull = jax.vjp(read, params["embedding"])
    slots = jnp.eye(B * T).reshape(-1, B, T)
    norms_XV = jax.lax.map(lambda slot: jnp.linalg.norm(pull(slot)[0], axis=-1), slots)
    return norms_XV[:, : B * T].reshape(B, T, B, T)


def _visible(batch: dict[str, np.ndarray], config: TransformerConfig) -> np.ndarray:
    """visible_BTCS: what a slot's logits may depend on; each layer looks one window
    further back."""
    B, T = batch["tokens"].shape
    windows = {"G": WINDOW, "L": config.window}
    reach = sum(windows[kind] - 1 for kind in config.kinds)
    visible_BTCS = np.zeros((B, T, B, T), bool)
    for b in range(B):
        for t in range(T):
            for s in range(max(0, t - reach), t + 1):
                same = batch["segments"][b, t] == batch["segments"][b, s]
                visible_BTCS[b, t, b, s] = same
    return visible_BTCS


@every_family
def test_logits_depend_on_their_own_document_so_far_and_on_nothing_else(config):
    # before the shape is changed, as learned positions are as many as max_length
    params = weights(dataclasses.replace(config, max_length=WINDOW))
    _require_sight(params, config)


@every_adapted
def test_sight_with_changed_weights(name):
    _require_sight(*adapted(name))


def _require_sight(params, config):
    config = dataclasses.replace(config, max_length=WINDOW)
    batch = _batch()
    influence_BTCS = np.asarray(_influence(params, batch, config))
    visible_BTCS = _visible(batch, config)
    real_BT = batch["segments"] > 0  # what is computed at PAD is never used
    assert np.all(influence_BTCS[real_BT][~visible_BTCS[real_BT]] == 0)
    assert np.all(influence_BTCS[real_BT][visible_BTCS[real_BT]] > 0)


def test_a_long_row_reads_as_its_first_part_alone_would():
    # rows from 128 on are attended to in blocks
    config = dataclasses.replace(BASE, max_length=48)
    text = np.random.default_rng(0).integers(0, config.vocab_size, 128)
    whole_BTV = logits(config, alone([text], 128))
    part_BTV = logits(config, alone([text[:100]], 100))
    assert_agree(whole_BTV[:, :100], part_BTV, config)
