"""Vectors of texts and words: what is pooled, and what a vector depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.model import transformer
from genlm.retrieval import embed
from genlm.retrieval.embed import Pooling
from tests.retrieval import tiny
from tests.retrieval.tiny import MODEL, TEXTS, TOKENIZER

PARAMS = tiny.params()


def vectors(texts, batch_size=32, **how) -> np.ndarray:
    how = Pooling(**{"max_length": 64, **how})
    return embed.embed(
        PARAMS, MODEL, TOKENIZER, how, texts, batch_size=batch_size
    ).vectors


def states(ids: list[int]) -> np.ndarray:
    """The last hidden states [T, D] of one row that has no padding."""
    row = jnp.asarray([ids])
    batch = {"tokens": row, "segments": jnp.ones_like(row)}
    batch["positions"] = jnp.arange(len(ids))[None]
    apply = jax.jit(lambda batch: transformer.apply(PARAMS, batch, MODEL)[0][0])
    return np.asarray(apply(batch))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def test_mean_is_of_the_texts_own_tokens_and_last_of_the_stop_after_them():
    bos, stop = TOKENIZER.special.bos, TOKENIZER.special.stop
    text = TEXTS[1]
    of_mean = unit(states([bos, *text.encode()])[1:].mean(0))
    of_last = unit(states([bos, *text.encode(), stop])[-1])
    assert tiny.distance(vectors([text])[0], of_mean) < 1e-6
    assert tiny.distance(vectors([text], pool="last")[0], of_last) < 1e-6
    # a text of nothing is what stands before every text
    assert tiny.distance(vectors([""])[0], unit(states([bos])[0])) < 1e-6


@pytest.mark.parametrize("pool", embed.POOLS)
def test_a_vector_does_not_depend_on_the_others(pool: str):
    whole = vectors(TEXTS, pool=pool)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    assert whole.dtype == np.float32 and whole.shape == (len(TEXTS), MODEL.model_dim)
    alone = [vectors([text], pool=pool)[0] for text in TEXTS]
    assert tiny.distance(whole, np.stack(alone)) < 1e-5
    assert tiny.distance(whole, vectors(TEXTS, batch_size=2, pool=pool)) < 1e-5
    assert tiny.distance(whole[0], whole[1]) > 0.1  # and texts are told apart


def test_a_smaller_size_is_the_first_numbers_at_length_one():
    small = vectors(TEXTS, size=8)
    whole = vectors(TEXTS)[:, :8]
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    assert tiny.distance(small, whole) < 1e-6


@pytest.mark.parametrize("pool", embed.POOLS)
def test_a_longer_text_is_cut_and_counted(pool: str):
    room = 8 - 1 - (pool == "last")  # BOS, and STOP
    texts = ["x" * room, "y" * (room + 1), "z" * 500]
    how = Pooling(pool, max_length=8)
    found = embed.embed(PARAMS, MODEL, TOKENIZER, how, texts)
    assert found.num_cut == 2
    same = vectors(["y" * room, "z" * room], pool=pool, max_length=8)
    assert tiny.distance(found.vectors[1:], same) < 1e-6


def test_few_shapes_are_compiled():
    embed._vectors.clear_cache()
    vectors(["x" * n for n in range(60)], batch_size=16)
    assert embed._vectors._cache_size() == 3  # 16 rows of 16, 32 and 64 tokens


def test_a_words_vector_is_the_row_of_its_token_after_a_space():
    table = np.random.default_rng(0).normal(size=(259, 6)).astype(np.float32)
    found = embed.word_vectors(table, TOKENIZER, ["ab"])
    mean = (table[ord(" ")] + table[ord("a")] + table[ord("b")]) / 3
    assert tiny.distance(found[0], unit(mean)) < 1e-6


def test_what_is_no_pooling_of_the_model_is_said():
    with pytest.raises(UserError, match="'max' is not one of mean, last"):
        Pooling("max")
    with pytest.raises(UserError, match="vectors have 32 numbers"):
        vectors(["a"], size=33)
    with pytest.raises(UserError, match="the model reads 64"):
        vectors(["a"], max_length=65)


def test_a_vector_of_nothing_stays_nothing_and_its_gradient_is_finite():
    zero = jnp.zeros((1, 4))
    assert float(jnp.sum(embed.cut_to(zero, 2))) == 0
    gradient = jax.grad(lambda x: jnp.sum(embed.cut_to(x, 2)))(zero)
    assert bool(jnp.all(jnp.isfinite(gradient)))
