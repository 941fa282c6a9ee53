"""THE CACHE LAW: cached decoding gives the logits of the full forward pass, whatever
the padding, the order of reading and the window.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import transformer
from tests.laws.families import (
    adapted,
    alone,
    assert_agree,
    every_adapted,
    every_family,
    logits,
    weights,
)

PROMPTS = (24, 13, 5)  # tokens; padded left to the longest, which is past the window
AFTER = 32  # tokens that follow each prompt
SLOTS = max(PROMPTS) + AFTER
READINGS = {
    "prompt, then many, then one by one": [24, 24] + [1] * 8,
    "one by one": [1] * SLOTS,
}


@functools.partial(jax.jit, static_argnames="config")
def _read(params, part, cache, config):
    """logits_BTV of the next part of each row, and the cache with it."""
    hidden_BTD, _, cache = transformer.apply(params, part, config, cache=cache)
    return transformer.unembed(params, hidden_BTD, config), cache


@functools.cache
def _texts(vocab_size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, vocab_size, n + AFTER) for n in PROMPTS]


def _padded_left(texts: list[np.ndarray]) -> dict[str, np.ndarray]:
    batch = {
        name: np.zeros((len(texts), SLOTS), np.int32)
        for name in ("tokens", "segments", "positions")
    }
    for b, text in enumerate(texts):
        first = SLOTS - len(text)
        batch["tokens"][b, first:] = text
        batch["segments"][b, first:] = 1
        batch["positions"][b, first:] = np.arange(len(text))
    return batch


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
@every_family
def test_cached_decoding_equals_the_full_forward(config, reading):
    _require_the_same(weights(config), config, reading)


@every_adapted
def test_cached_decoding_with_changed_weights(name):
    _require_the_same(*adapted(name), READINGS["prompt, then many, then one by one"])


def _require_the_same(params, config, reading):
    assert sum(reading) == SLOTS > config.max_length
    texts = _texts(config.vocab_size)
    full_BTV = logits(config, alone(texts, SLOTS), params)

    batch = _padded_left(texts)
    cache = transformer.empty_cache(config, len(texts), SLOTS)
    parts, first = [], 0
    for size in reading:
        part = {name: x[:, first : first + size] for name, x in batch.items()}
        part_BTV, cache = _read(params, part, cache, config)
        parts.append(part_BTV)
        first += size
    cached_BTV = jnp.concatenate(parts, axis=1)

    for b, text in enumerate(texts):
        real = slice(SLOTS - len(text), SLOTS)
        assert_agree(cached_BTV[b, real], full_BTV[b, : len(text)], config)
