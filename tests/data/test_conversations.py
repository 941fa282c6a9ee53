"""Conversations: the shapes in which instruction data comes, and rows that are none."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data import conversations
from genlm.data.forms import CONVERSATIONS, ROLES
from genlm.data.shapes import Unfit
from genlm.data.synthetic import is_held_out
from genlm.errors import UserError
from tests.data_files import shared


def _write(path: Path, *rows) -> str:
    """JSON lines of rows; a row of bytes is written as it is."""
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def _read(path: str, **options) -> tuple[list[dict], list[str]]:
    """Conversations, and what was said of the rows left out."""
    said: list[str] = []
    return list(conversations.read(path, say=said.append, **options)), said


def _turns(conversation: dict) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in conversation["messages"]]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    "name, form, count",
    [
        ("sft/dolly_hhrlhf_small.jsonl", "prompt_response", 849),
        ("sft/identity_conversations.jsonl", "sharegpt", 500),
        ("sft/self_instruct_seed.jsonl", "alpaca", 175),
        ("sft/user_oriented_instructions.jsonl", "alpaca", 123),
        ("verifiable/gsm8k_train.jsonl", "prompt_response", 3500),
        ("verifiable/gsm8k_valid.jsonl", "prompt_response", 500),
        ("verifiable/arithmetic_nospaces.jsonl", "prompt_response", 800),
        ("verifiable/arithmetic_withspaces.jsonl", "prompt_response", 800),
        ("domain/medical_medquad.jsonl", "prompt_response", 1300),
    ],
)
def test_every_row_of_real_files_is_read(name: str, form: str, count: int):
    path = str(shared(name))
    found, said = _read(path, strict=True)
    assert len(found) == count and not said
    assert found == _read(path, form=form)[0]
    assert [row["line"] for row in found] == list(range(1, count + 1))
    assert {row["file"] for row in found} == {path}
    assert all(_turns(row)[-1][0] == "assistant" for row in found)


def test_what_real_rows_say():
    (first, *_), _ = _read(str(shared("verifiable/gsm8k_valid.jsonl")))
    (_, asked), (_, answer) = _turns(first)
    assert asked.startswith("I run 12 miles in 90 minutes.")
    assert answer.endswith("#### 8")
    (first, *_), _ = _read(str(shared("sft/identity_conversations.jsonl")))
    assert [role for role, _ in _turns(first)] == ["user", "assistant"] * 2
    assert _turns(first)[3] == ("assistant", "You too!")
    (first, *_), _ = _read(str(shared("sft/dolly_hhrlhf_small.jsonl")))
    assert _turns(first)[0][1].endswith("### Response:\n")  # a frame is left as it is
    framed = [
        row
        for row in _read(str(shared("sft/self_instruct_seed.jsonl")))[0]
        if "\n\n" in row["messages"][0]["content"]
    ]
    assert len(framed) > 50


def test_files_without_answers_are_an_error():
    path = shared("sft/vicuna_bench_questions.jsonl")
    with pytest.raises(UserError, match=r"no conversation in it \(line 1: its fields"):
        _read(str(path))
    with pytest.raises(UserError, match="and 74 more"):
        _read(str(path))


def test_rows_of_a_file_that_fit_in_part_are_counted():
    """Of LegalBench's inputs most are objects of several fields."""
    found, said = _read(str(shared("domain/legal_legalbench.jsonl")))
    assert len(found) == 86 and len(said) == 1
    assert "left out 251 of 337 rows: line 6: its input is an object" in said[0]
    assert said[0].endswith("and 248 more")


ASKED = [("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize(
    "row, turns",
    [
        ({"prompt": "Q", "response": "A"}, ASKED),
        ({"prompt": "Q", "completion": "A"}, ASKED),
        ({"question": "Q", "answer": "A", "id": 3}, ASKED),
        ({"query": "Q", "response": "A"}, ASKED),
        ({"context": "Q", "continuation": "A"}, ASKED),
        ({"input": "Q", "target": "A"}, ASKED),
        ({"inputs": "Q", "targets": "A"}, ASKED),
        ({"instruction": "Q", "input": "", "output": "A"}, ASKED),
        ({"instruction": "Q", "output": "A"}, ASKED),
        ({"instruction": "Q", "input": None, "output": "A"}, ASKED),
        (
            {"instruction": "Q", "input": " I\n", "output": "A"},
            [("user", "Q\n\n I\n"), ("assistant", "A")],
        ),
        (
            {"instruction": "Q", "context": "C", "response": "A", "category": "x"},
            [("user", "Q\n\nC"), ("assistant", "A")],
        ),
        (
            {
                "conversations": [
                    {"from": "system", "value": ""},
                    {"from": "human", "value": "Q"},
                    {"from": "gpt", "value": "A"},
                ]
            },
            ASKED,
        ),
        (
            {
                "prompt": "not this",
                "messages": [
                    {"role": "developer", "content": "Be kind."},
                    {"role": "user", "content": "Q"},
                    {"role": "assistant", "content": "A"},
                    {"role": "tool", "content": ""},
                    {"role": "assistant", "content": " B "},
                ],
            },
            [("developer", "Be kind."), *ASKED, ("tool", ""), ("assistant", " B ")],
        ),
    ],
)
def test_shapes(file, row: dict, turns: list):
    found, said = _read(_write(file, row))
    assert [_turns(c) for c in found] == [turns] and not said


def test_several_instances_are_several_conversations_of_one_question(file):
    instances = [{"input": "1", "output": "a"}, {"input": "", "output": "b"}]
    found, _ = _read(_write(file, {"instruction": "Q", "instances": instances}))
    assert [_turns(c)[0][1] for c in found] == ["Q\n\n1", "Q"]
    assert [c["line"] for c in found] == [1, 1]


GOOD = {"prompt": "Q", "response": "A"}
TALK = {"messages": [{"role": "user", "content": "Q"}]}


@pytest.mark.parametrize(
    "row, why",
    [
        (b"{", r"not JSON \(Expecting property name"),
        (b'{"prompt": "\xff", "response": "A"}', r"not UTF-8 \(byte 13"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", r"not JSON \(Exceeds"),
        ([1, 2], "a list and no object"),
        (3, "a number and no object"),
        (None, "null and no object"),
        ({}, r"its fields \(none\) are"),
        ({"prompt": "Q"}, r"its fields \(prompt\) are"),
        ({"prompt": "Q", "response": ""}, "turn 2, the assistant's, is empty"),
        ({"prompt": " \n", "response": "A"}, "turn 1, the user's, is empty"),
        ({"prompt": 5, "response": "A"}, "its prompt is a number and no text"),
        ({"prompt": "Q", "response": None}, "its response is null and no text"),
        ({"prompt": "Q", "response": ["A"]}, "its response is a list and no text"),
        ({"prompt": "\ud800", "response": "A"}, "turn 1 holds half a character"),
        ({"instruction": "Q"}, "its output is missing"),
        ({"instruction": "Q", "instances": []}, "instances is an empty list"),
        ({"instruction": "Q", "instances": ["A"]}, "one of its instances is a text"),
        ({"messages": []}, "its turns are an empty list"),
        ({"messages": "Q"}, "its turns are a text"),
        (TALK, "no assistant's turn"),
        ({"messages": ["Q"]}, "turn 1 is a text and no object"),
        ({"messages": [{"role": "bot", "content": ""}]}, "turn 1 has the role 'bot'"),
        ({"messages": [{"content": ""}]}, "turn 1 has the role 'None'"),
        ({"messages": [{"role": ["user"]}]}, "turn 1 has the role"),
        ({"messages": [{"role": "user"}]}, "turn 1's value is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "turn 1's content is a list and no text",
        ),
    ],
)
def test_a_row_that_is_no_conversation_says_why(file, row, why: str):
    path = _write(file, GOOD, GOOD, row)
    if isinstance(row, dict) and row.keys() & {"messages", "instruction"}:
        path = _write(file, _good_of(row), _good_of(row), row)
    found, said = _read(path)
    assert len(found) == 2 and len(said) == 1
    with pytest.raises(UserError, match=rf":3: {why}.*a row is one of messages"):
        _read(path, strict=True)
    if row is not None:
        with pytest.raises(UserError, match=rf"no conversation in it \(line 1: {why}"):
            _read(_write(file, row))


def _good_of(row: dict) -> dict:
    if "instruction" in row:
        return {"instruction": "Q", "output": "A"}
    return {"messages": [{"role": r, "content": "."} for r in ("user", "assistant")]}


def test_the_first_row_that_fits_decides_for_its_file(file, tmp_path):
    rows = [TALK, GOOD, {"question": "Q", "answer": "A"}, {"instruction": "Q"}]
    found, said = _read(_write(file, *rows))
    assert [row["line"] for row in found] == [2, 3]
    assert "2 of 4 rows: line 1: no assistant's turn; line 4: its fields" in said[0]
    other = _write(tmp_path / "other.jsonl", {"instruction": "Q", "output": "A"})
    found, said = _read(f"{file},{other}")
    assert [row["file"] for row in found] == [str(file)] * 2 + [other]
    with pytest.raises(UserError, match="no conversation in it"):
        _read(other, form="sharegpt")
    with pytest.raises(UserError, match="form 'openai' is none; there are auto, mess"):
        _read(other, form="openai")


def test_one_array_is_rows_too(tmp_path):
    path = tmp_path / "rows.json"
    text = json.dumps([GOOD, {"prompt": ""}, GOOD], indent=1)
    for bom in ("", "\ufeff"):
        path.write_text(f"{bom} \n{text}", "utf-8")
        found, said = _read(str(path))
        assert [row["line"] for row in found] == [1, 3] and "1 of 3" in said[0]
    path.write_text(text[:-3], "utf-8")
    with pytest.raises(UserError, match=r"rows.json: not JSON \(.*line \d+, column"):
        _read(str(path))
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD), "utf-8")
    assert len(_read(str(path))[0]) == 2  # lines, whatever their name says
    path.write_text("[]", "utf-8")
    with pytest.raises(UserError, match="no conversation in it .it has no row"):
        _read(str(path))


def test_line_ends_marks_and_blank_lines(file):
    line = json.dumps({"prompt": "a\u2028b\x85", "response": "é"}, ensure_ascii=False)
    file.write_bytes(f"\ufeff{line}\r\n\r\n  \n{line}".encode())
    found, said = _read(str(file))
    assert [row["line"] for row in found] == [1, 4] and not said
    assert _turns(found[0]) == [("user", "a\u2028b\x85"), ("assistant", "é")]


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match="data.paths"):
            _read(str(path))
    (tmp_path / "blank.jsonl").write_text("\n \n")
    with pytest.raises(UserError, match="it has no row"):
        _read(str(tmp_path / "blank.jsonl"))


def test_two_answers_to_one_question_are_on_one_side(file):
    rows = [{"prompt": f"Q{n // 2}", "response": f"A{n}"} for n in range(400)]
    sides = [is_held_out(row, 0.2) for row in _read(_write(file, *rows))[0]]
    assert sides[::2] == sides[1::2] and 20 < sum(sides[::2]) < 60


def test_the_embedded_questions_are_a_path_too():
    found, said = _read("embedded:questions")
    assert len(found) > 9000 and not said
    assert found[0]["file"] == "embedded:questions" and found[0]["keys"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
WORD = st.sampled_from(
    "messages conversations role content from value instruction input output instances"
    " prompt response question answer context target user assistant human Q".split()
)
NEAR = st.recursive(
    WORD | JSON,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(WORD, inner, max_size=4),
    max_leaves=12,
)


@given(row=NEAR)
def test_whatever_a_row_is_it_is_read_or_says_why(row):
    for form in CONVERSATIONS.forms:
        try:
            found = CONVERSATIONS.read(row, form)
        except Unfit as why:
            assert str(why)
        else:
            assert found and all(m["role"] in ROLES for c in found for m in c)
            assert json.dumps(found).encode()


@given(lines=st.lists(st.binary(max_size=40) | NEAR, max_size=5))
def test_whatever_a_file_is_it_is_read_or_says_why(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    for text in (_write(path, *lines), _write(path.with_suffix(".json"), *lines)):
        try:
            found, said = _read(text)
            assert found
            assert len(said) <= 1
        except UserError as error:
            assert "data.paths" in str(error) or str(error).startswith(text)
