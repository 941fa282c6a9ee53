"""Pairs of a query and its passage: how they are read, and what is held out."""

import json
from pathlib import Path

import numpy as np
import pytest

from genlm.data import pairs
from genlm.data.pairs import PairsConfig
from genlm.errors import UserError
from tests.data_files import shared

PAIRS = [
    {"question": "who?", "answer": "he did", "topic": "a"},
    {"question": "when?", "answer": "at noon", "topic": "b"},
    {"question": "what time?", "answer": "at noon", "topic": "b"},
    {"question": "where?", "answer": "at home", "topic": "c"},
]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def settings(paths: str, **changes) -> PairsConfig:
    usual = {"passages": "", "query": "question", "passage": "answer", "group": ""}
    usual |= {"split": "last", "valid_fraction": 0.34}
    return PairsConfig(paths=paths, **{**usual, **changes})


def test_a_passage_of_several_queries_is_one(tmp_path: Path):
    train, valid = pairs.read(settings(write(tmp_path / "p.jsonl", PAIRS)))
    assert train.queries == ["who?", "when?", "what time?"]
    assert train.passages == ["he did", "at noon"]
    assert train.own.tolist() == [0, 1, 1]
    assert (valid.queries, valid.passages) == (["where?"], ["at home"])


def test_what_belongs_together_is_held_out_together(tmp_path: Path):
    path = write(tmp_path / "p.jsonl", PAIRS)
    _, valid = pairs.read(settings(path, group="topic", valid_fraction=0.5))
    assert valid.passages == ["at noon", "at home"]  # two of three, rounded to even
    for fraction in (0.2, 0.5, 0.8):
        config = settings(path, split="hash", group="topic", valid_fraction=fraction)
        train, valid = pairs.read(config)
        assert len(train.passages) + len(valid.passages) == 3
        assert not set(train.passages) & set(valid.passages)
        # the order of the rows is no matter
        other = write(tmp_path / "other.jsonl", PAIRS[::-1])
        config = settings(other, split="hash", group="topic", valid_fraction=fraction)
        assert set(pairs.read(config)[1].passages) == set(valid.passages)


def test_passages_of_a_file_of_their_own(tmp_path: Path):
    docs = [{"id": str(i), "text": f"text {i}", "title": f"{i // 2}"} for i in range(6)]
    asked = [{"q": f"of {i}?", "doc": str(i)} for i in (5, 0, 1, 4)]
    config = settings(
        write(tmp_path / "queries.jsonl", asked),
        passages=write(tmp_path / "docs.jsonl", docs),
        query="q",
        passage="doc",
        group="title",
    )
    train, valid = pairs.read(config)
    # nobody asks for 2 and 3, which stand among the passages all the same
    assert train.passages == ["text 0", "text 1", "text 2", "text 3"]
    assert [train.passages[i] for i in train.own] == ["text 0", "text 1"]
    assert [valid.passages[i] for i in valid.own] == ["text 5", "text 4"]
    assert [p.name for p in pairs.files(config)] == ["queries.jsonl", "docs.jsonl"]


def test_xquad_is_held_out_by_articles():
    folder = shared("retrieval")
    config = PairsConfig(
        paths=str(folder / "xquad_en_queries.jsonl"),
        passages=str(folder / "xquad_en_docs.jsonl"),
        query="query",
        passage="doc_id",
        group="title",
        split="last",
        valid_fraction=0.5,
    )
    train, valid = pairs.read(config)
    sizes = [(len(part.queries), len(part.passages)) for part in (train, valid)]
    assert sizes == [(632, 120), (558, 120)]
    rows = (folder / "xquad_en_queries.jsonl").read_text("utf-8").splitlines()
    row = json.loads(rows[-1])
    assert valid.queries[-1] == row["query"]
    assert row["answers"][0] in valid.passages[valid.own[-1]]


def test_the_embedded_pairs_are_docstrings_held_out_by_module():
    config = settings(pairs.EMBEDDED, split="hash", valid_fraction=0.1)
    train, valid = pairs.read(config)
    modules = [{p.rpartition(".")[0] for p in part.passages} for part in (train, valid)]
    assert not modules[0] & {m for m in modules[1] if m}
    assert "textwrap.dedent" in train.passages + valid.passages
    assert np.array_equal(train.own, np.arange(len(train.queries)))


WRONG = {
    "no field": ([{"question": "who?"}], "no text in the field 'answer'; its fields:"),
    "no text": ([{"question": " ", "answer": "he"}], "no text in the field 'question'"),
    "no object": (["who?"], "no object with fields"),
    "one passage": (PAIRS[1:3], "no pair to train on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_is_no_pair_is_said_with_its_line(name: str, tmp_path: Path):
    rows, words = WRONG[name]
    with pytest.raises(UserError, match=words) as raised:
        pairs.read(settings(write(tmp_path / "p.jsonl", rows)))
    assert name == "one passage" or "p.jsonl:1" in str(raised.value)


def test_a_passage_that_is_not_there_or_twice_is_said(tmp_path: Path):
    docs = [{"id": "a", "text": "x"}]
    config = settings(
        write(tmp_path / "q.jsonl", [{"question": "?", "answer": "b"}]),
        passages=write(tmp_path / "d.jsonl", docs),
    )
    with pytest.raises(UserError, match="q.jsonl:1: data.passages has no passage 'b'"):
        pairs.read(config)
    write(tmp_path / "d.jsonl", docs * 2)
    with pytest.raises(UserError, match="d.jsonl:2: a passage with the id 'a'"):
        pairs.read(config)
    with pytest.raises(UserError, match="data.split 'first' is not one of"):
        settings("p", split="first")
