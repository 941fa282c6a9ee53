"""Baselines: probabilities that sum to one, numbers worked by hand, and real text."""

import lzma
import math
from pydoc_data.topics import topics

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from genlm.evaluate import baselines
from genlm.evaluate.baselines import KneserNey
from genlm.runs import progress

VOCAB = 4
tokens = st.integers(0, VOCAB - 1)
documents = st.lists(st.lists(tokens, min_size=1), min_size=1, max_size=5)


def _ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64)


def _last(model: KneserNey, *ids: int) -> float:
    """p(the last of `ids` | those before it)."""
    return model.probabilities([np.asarray(ids)])[-1]


@given(documents, st.lists(tokens, max_size=6), st.integers(1, 5))
def test_the_probabilities_after_any_context_sum_to_one(learnt, context, order: int):
    model = KneserNey([np.asarray(d) for d in learnt], VOCAB, order)
    after = [_last(model, *context, token) for token in range(VOCAB)]
    assert min(after) > 0
    assert math.isclose(sum(after), 1, rel_tol=1e-9)


def test_bigrams_by_hand():
    # Each of the bigrams (start 0), (0 1), (1 0), (0 0) comes once, so half a count is
    # taken from each. 0 follows three different tokens and 1 one: p(0) is
    # (3 - 1/2 + (1/2 + 1/2) / 2) / 4 = 3/4, and p(1) 1/4.
    model = KneserNey([np.asarray([0, 1, 0, 0])], vocab_size=2, order=2)
    assert math.isclose(_last(model, 0, 1), (1 - 1 / 2 + 1 * 1 / 4) / 2)
    assert math.isclose(_last(model, 0, 0), (1 - 1 / 2 + 1 * 3 / 4) / 2)
    assert math.isclose(_last(model, 1, 0), 1 - 1 / 2 + 1 / 2 * 3 / 4)
    assert math.isclose(_last(model, 1, 1), 1 / 2 * 1 / 4)
    assert math.isclose(_last(model, 0), 1 - 1 / 2 + 1 / 2 * 3 / 4)
    each = [0.875, 0.375, 0.875, 0.625]
    assert math.isclose(model.bits([np.asarray([0, 1, 0, 0])]), -np.log2(each).sum())


def test_discounts_by_hand():
    # 4 tokens come once, 2 twice, 1 thrice, 1 four times: Y = 4 / (4 + 2·2) = 1/2, so
    # D1 = 1 - 2·Y·2/4 = 1/2, D2 = 2 - 3·Y·1/2 = 5/4, D3 = 3 - 4·Y·1/1 = 1.
    learnt = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 3, 4])
    model = KneserNey([learnt], vocab_size=9, order=1)
    freed = 4 * 1 / 2 + 2 * 5 / 4 + 1 + 1
    for token, kept in ((0, 1 - 1 / 2), (4, 2 - 5 / 4), (6, 3 - 1), (7, 4 - 1), (8, 0)):
        assert math.isclose(_last(model, token), (kept + freed / 9) / len(learnt))


def test_a_context_never_seen_is_as_no_context():
    model = KneserNey([np.asarray([0, 1, 0, 0])], vocab_size=4, order=3)
    assert _last(model, 3, 1) == _last(model, 2, 1) == _last(model, 3, 3, 1)
    assert _last(model, 1, 0) != _last(model, 3, 0)


def test_documents_are_apart():
    model = KneserNey([np.asarray([0, 1]), np.asarray([0, 1])], vocab_size=3, order=3)
    one, two = np.asarray([0, 1, 1]), np.asarray([2, 0])
    together = model.probabilities([one, two])
    alone = np.concatenate([model.probabilities([one]), model.probabilities([two])])
    np.testing.assert_array_equal(together, alone)


@pytest.fixture(scope="module")
def prose() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Documents to learn from, and others to predict."""
    ids = [_ids(topics[name]) for name in sorted(topics)]
    return ids[::8], ids[1::40]


def test_more_context_predicts_real_text_better(prose):
    learnt, held_out = prose
    size = sum(map(len, held_out))
    bits = [KneserNey(learnt, 256, n).bits(held_out) / size for n in (1, 2, 3, 5)]
    assert bits == sorted(bits, reverse=True)
    assert 8 > bits[0] > bits[-1] + 1.5 and bits[-1] > 0.5


def test_xz_shows_how_far_it_is(capsys, monkeypatch):
    text = "".join(map(str, range(300_000))).encode()  # two blocks
    expected = 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    empty = len(lzma.compress(b""))
    assert baselines.xz_bits(b"", text) == expected - 8 * empty
    assert "xz: 1 of 2, " in capsys.readouterr().err


def test_xz_bits_are_fewer_if_the_text_was_seen(prose):
    train, valid = (
        b"".join(d.astype(np.uint8).tobytes() for d in part) for part in prose
    )
    bits = baselines.xz_bits(train, valid)
    assert 0 < bits < baselines.xz_bits(b"", valid) < 8 * len(valid)
    assert 0 < baselines.xz_bits(train + valid, valid) < bits / 2
