"""The survey: which documents stay, which are held out, what the sample may hold."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data import sources
from genlm.data.survey import Survey
from genlm.errors import UserError


def _survey(texts: list[str | list[str]], **settings) -> Survey:
    """The survey of documents, each a text or its parts."""
    options = {
        "total_bytes": 0,
        "sample_bytes": 1,
        "dedup": True,
        "valid_fraction": 0.1,
    }
    return Survey.of(
        (
            sources.Document("", lambda t=t: iter([t] if isinstance(t, str) else t))
            for t in texts
        ),
        **options | settings,
    )


def _splits(survey: Survey, texts: list[str | list[str]]) -> dict[str, list[str]]:
    """The texts of each split; what is of one document joined."""
    found: dict[str, list[str]] = {"train": [], "valid": []}
    for number, text in enumerate(texts):
        pieces = list(survey.split(number, [text] if isinstance(text, str) else text))
        for split, group in itertools.groupby(pieces, lambda piece: piece[0]):
            found[split].append("".join(piece for _, piece in group))
    return found


@pytest.mark.parametrize("parts", [1, 3, 100])
def test_a_single_document_holds_out_its_end(parts: int):
    text = "".join(chr(97 + i % 26) for i in range(1000))
    cuts = [len(text) * i // parts for i in range(parts + 1)]
    document = [text[a:b] for a, b in itertools.pairwise(cuts)]
    survey = _survey([document])
    assert _splits(survey, [document]) == {"train": [text[:900]], "valid": [text[900:]]}
    assert "".join(survey.sample) in text[:900]


@given(st.lists(st.text("ab", max_size=3), min_size=2, max_size=8), st.booleans())
def test_both_splits_hold_text_and_share_none(texts: list[str], dedup: bool):
    different = {text for text in texts if text}
    if not different or (len(different) == 1 and len(min(different)) == 1):
        return  # too little for two splits
    splits = _splits(_survey(texts, dedup=dedup), texts)
    assert splits["train"] and splits["valid"]
    if len(different) > 1:
        assert not set(splits["train"]) & set(splits["valid"])
        kept = sorted(splits["train"] + splits["valid"])
        assert kept == sorted(different if dedup else [t for t in texts if t])


def test_about_the_fraction_is_held_out_whatever_the_order():
    texts = [f"document {i}" for i in range(1000)]
    splits = _splits(_survey(texts, valid_fraction=0.2), texts)
    assert 150 < len(splits["valid"]) < 250
    again = _splits(_survey(texts[::-1], valid_fraction=0.2), texts[::-1])
    assert set(again["valid"]) == set(splits["valid"])
    more = texts + [f"later {i}" for i in range(500)]
    assert set(splits["valid"]) <= set(
        _splits(_survey(more, valid_fraction=0.2), more)["valid"]
    )


def test_a_document_is_the_same_however_it_is_cut():
    texts = ["one text", ["one", " te", "xt"], "another"]
    survey = _survey(texts)
    assert survey.kept.tolist() == [True, False, True]
    assert survey.duplicates == 1


@pytest.mark.parametrize("valid_fraction", [0.1, 0.5, 0.9])
def test_the_sample_holds_all_of_training_and_nothing_held_out(valid_fraction: float):
    texts = [f"text of document {i}." for i in range(50)]
    texts += [[f"long {i} " * 9000, f"and {i} ends."] for i in range(3)] + texts[:10]
    survey = _survey(texts, valid_fraction=valid_fraction)
    splits = _splits(survey, texts)
    sample = " ".join(survey.sample)
    for text in splits["train"]:
        assert text[-12:] in sample
    for text in splits["valid"]:
        assert text not in sample


def test_the_sample_is_about_as_large_as_asked():
    texts = [f"{i:0100d}" for i in range(2000)]
    survey = _survey(texts, total_bytes=200_000, sample_bytes=50_000)
    assert 35_000 < sum(map(len, survey.sample)) < 55_000
    assert _survey(texts, sample_bytes=0).sample == []


def test_the_sample_of_a_single_document_stops_where_the_held_out_text_begins():
    text = "".join(f"{i:07d} " for i in range(40_000))  # several units of the sample
    survey = _survey([text])
    drawn = sorted(survey.sample)
    assert "".join(drawn) == text[: len(text) * 9 // 10]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_said(texts: list[str]):
    with pytest.raises(UserError, match="data.paths"):
        _survey(texts)


def test_documents_that_came_later_are_said():
    survey = _survey(["one", "two"])
    with pytest.raises(UserError, match="run again"):
        list(survey.split(2, ["three"]))
