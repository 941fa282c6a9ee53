"""Many spans in one row are as likely as each by itself."""

import dataclasses

import jax
import numpy as np
import pytest

from genlm.evaluate import likelihood, spans
from genlm.evaluate.likelihood import Candidate
from genlm.evaluate.spans import Piece, Span
from genlm.tokenizer.byte import ByteTokenizer
from genlm.tokenizer.special import Special
from tests.laws import families
from tests.laws.families import FAMILIES

CAPACITY = {"expert_dispatch": "capacity", "capacity_factor": 0.5}
CHECKED = {
    name: FAMILIES[name] for name in ("mha_swiglu_tied", "gemma2", "gpt2", "mixtral")
} | {"capacity": dataclasses.replace(FAMILIES["mixtral"], **CAPACITY)}
LENGTHS = (2, 3, 9, 16, 17, 18, 40)  # some longer than what the models look back


def _spans(seed: int = 0) -> list[Span]:
    random = np.random.default_rng(seed)
    made = []
    for length in LENGTHS * 3:
        ids = random.integers(0, families.BASE.vocab_size, length).tolist()
        made.append(Span(ids, int(random.integers(1, length))))
    return made


def _naive(config, asked: list[Span]) -> list[tuple[list[float], list[bool]]]:
    """Each piece a row of its own, with all logits at hand."""
    cut = [
        (n, p) for n, s in enumerate(asked) for p in spans.pieces(s, config.max_length)
    ]
    texts = [asked[n].ids[p.start : p.end] for n, p in cut]
    longest = max(map(len, texts)) - 1
    logits_BTV = families.logits(config, families.alone(texts, longest))
    logp_BTV = np.asarray(jax.nn.log_softmax(logits_BTV, axis=-1))
    found: list[tuple[list[float], list[bool]]] = [([], []) for _ in asked]
    for (n, piece), ids, logp_TV in zip(cut, texts, logp_BTV):
        told = logp_TV[len(ids) - 1 - piece.num : len(ids) - 1]
        targets = ids[-piece.num :]
        found[n][0].extend(told[np.arange(piece.num), targets])
        found[n][1].extend(told.argmax(-1) == targets)
    return found


@pytest.mark.parametrize("name", CHECKED)
def test_packed_spans_are_as_likely_as_rows_of_their_own(name: str):
    config = CHECKED[name]
    candidate = Candidate(families.weights(config), config, ByteTokenizer())
    asked = _spans()
    assert len({span.first for span in asked}) > 5
    naive = _naive(candidate.config, asked)
    found = likelihood.score(candidate, asked, name)
    for span, each, (logprobs, likeliest) in zip(asked, found, naive):
        assert len(each.logprobs) == len(span.ids) - span.first
        np.testing.assert_allclose(each.logprobs, logprobs, atol=1e-4)
        np.testing.assert_array_equal(each.is_likeliest, likeliest)


def test_a_text_of_nothing_has_nothing_to_score():
    config = FAMILIES["gqa"]
    candidate = Candidate(families.weights(config), config, ByteTokenizer())
    empty, one = likelihood.score(candidate, [Span([3], 1), Span([3, 4], 1)], "empty")
    assert empty.total == 0 and len(one.logprobs) == 1


def test_neither_order_nor_company_nor_batches_matter(monkeypatch):
    config = FAMILIES["gqa"]
    candidate = Candidate(families.weights(config), config, ByteTokenizer())
    asked = _spans(1) * 20
    together = likelihood.score(candidate, asked, "all")
    monkeypatch.setattr(likelihood, "_TOKENS", 256)  # batches of two rows
    apart = likelihood.score(candidate, asked[::-1], "reversed")[::-1]
    for a, b in zip(together, apart):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_a_long_text_is_cut_as_lm_eval_cuts_it():
    # the example of lm_eval.api.model.LM.loglikelihood_rolling: BOS and 0 to 9
    span = Span([99, *range(10)], 1)
    read = [
        (span.ids[p.start : p.end - 1], span.ids[p.end - p.num : p.end])
        for p in spans.pieces(span, 4)
    ]
    assert read == [
        ([99, 0, 1, 2], [0, 1, 2, 3]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([5, 6, 7, 8], [8, 9]),
    ]
    # a long context loses its beginning
    assert list(spans.pieces(Span(list(range(9)), 8), 4)) == [Piece(4, 9, 1)]


def test_pairs_are_encoded_as_lm_eval_does():
    tokenizer = ByteTokenizer()
    bos = tokenizer.special.bos
    pair = spans.of_pair(tokenizer, "ab ", "c")
    assert pair == Span([bos, 97, 98, 32, 99], 3)  # the space is what follows
    assert spans.of_pair(tokenizer, "", "c") == Span([bos, 99], 1)
    assert spans.of_pair(tokenizer, " ", "c") == Span([bos, 32, 99], 1)


def test_without_bos_a_text_begins_after_stop(monkeypatch):
    monkeypatch.setattr(ByteTokenizer, "special", Special(256, None, 258))
    tokenizer = ByteTokenizer()
    assert spans.of_pair(tokenizer, "a", "b") == Span([97, 98], 1)
    assert spans.of_text(tokenizer, "b") == Span([258, 98], 1)
