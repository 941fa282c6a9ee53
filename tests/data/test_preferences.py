"""What people preferred: the shapes it comes in, rows that are none, and the pairs."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data import preferences
from genlm.data.preference_forms import PREFERENCES, Judged
from genlm.data.preferences import Comparison, LeftOut, comparisons
from genlm.data.shapes import Unfit
from genlm.errors import UserError
from tests.data_files import shared


def _write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def _read(path: str, **options) -> tuple[list[Judged], list[str]]:
    """Judgements, and what was said of the rows left out."""
    said: list[str] = []
    return list(preferences.read(path, say=said.append, **options)), said


def _turns(judged: Judged) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in judged.messages]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    "name, form, count, pairs, left_out",
    [
        ("hh_harmless", "dialogues", 900, 897, LeftOut(empty=3, bare=3)),
        ("ifeval_pairs", "chosen", 170, 170, LeftOut()),
        (
            "pandalm_human",
            "verdicts",
            3 * 556,
            1340,
            LeftOut(empty=162, ties=166, bare=328),
        ),
        (
            "gsm8k_model_solutions",
            "solutions",
            380,
            691,
            LeftOut(same=4, ties=1585, bare=122 + 48),  # all wrong, all right
        ),
    ],
)
def test_every_row_of_real_files_is_read(
    name: str, form: str, count: int, pairs: int, left_out: LeftOut
):
    path = str(shared(f"preference/{name}.jsonl"))
    found, said = _read(path, strict=True)
    assert len(found) == count and not said
    assert found == _read(path, form=form)[0]
    assert {row.file for row in found} == {path}
    assert all(row.messages[-1]["role"] == "user" for row in found)
    counted = LeftOut()
    given_on = [pair for row in found for pair in comparisons(row, counted)]
    assert len(given_on) == pairs and counted == left_out
    assert all(pair.better.strip() and pair.worse.strip() for pair in given_on)
    of_four = form == "solutions"
    all_pairs = pairs + left_out.same + left_out.empty + left_out.ties
    assert all_pairs == count * (6 if of_four else 1)


def test_dialogues_are_whole():
    """Turns and answers, each after its mark, are the text again."""
    path = shared("preference/hh_harmless.jsonl")
    marks = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for row, judged in zip(rows, preferences.read(str(path)), strict=True):
        asked = "".join(marks[role] + said for role, said in _turns(judged))
        for name, answer in zip(("chosen", "rejected"), judged.answers):
            assert asked + marks["assistant"] + answer == row[name]
        assert judged.ranks == (1, 2)


def test_three_people_judge_one_row_of_pandalm():
    path = str(shared("preference/pandalm_human.jsonl"))
    found, _ = _read(path)
    rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    names = ["annotator1", "annotator2", "annotator3"]
    assert [row.annotator for row in found] == names * 556
    ranks = {0: (1, 1), 1: (1, 2), 2: (2, 1)}
    for judged in found:
        verdict = rows[judged.line - 1][judged.annotator]
        assert judged.ranks == ranks[verdict]
    true = found[3 * 108]  # a model said «True», and JSON holds true
    assert true.line == 109 and true.answers == ("True", "True.")


HUMAN = "\n\nHuman: Q"
ASKED = [("user", "Q")]
USER = {"role": "user", "content": "Q"}
SYSTEM = {"role": "system", "content": "S"}
A, B = ({"role": "assistant", "content": text} for text in "AB")
AB = ("A", "B")


@pytest.mark.parametrize(
    "row, turns, expected",
    [
        (
            {
                "chosen": f"{HUMAN}\n\nAssistant: X\n\nHuman:  R\n\nAssistant: A\n\nB",
                "rejected": f"{HUMAN}\n\nAssistant: X\n\nHuman:  R\n\nAssistant:",
            },
            [*ASKED, ("assistant", "X"), ("user", " R")],
            (("A\n\nB", ""), (1, 2)),
        ),
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, ASKED, (AB, (1, 2))),
        (
            {"prompt": f"{HUMAN}\n\nAssistant:", "chosen": "A", "rejected": "B"},
            ASKED,
            (AB, (1, 2)),
        ),
        (
            {"prompt": [SYSTEM, USER], "chosen": "A", "rejected": "B"},
            [("system", "S"), *ASKED],
            (AB, (1, 2)),
        ),
        ({"chosen": [USER, A], "rejected": [USER, B]}, ASKED, (AB, (1, 2))),
        (
            {"prompt": "Q", "chosen": [A], "rejected": [B], "messages": [USER, A]},
            ASKED,
            (AB, (1, 2)),
        ),
        (
            {
                "prompt": "Q",
                "chosen": [SYSTEM, USER, A],
                "rejected": [SYSTEM, USER, B],
            },
            [("system", "S"), *ASKED],
            (AB, (1, 2)),
        ),
        (
            {"prompt": [USER], "chosen": [A], "rejected": [B]},
            ASKED,
            (AB, (1, 2)),
        ),
        (
            {
                "instruction": "Q",
                "input": "I",
                "response1": "A",
                "response2": "B",
                "annotator7": 2,
            },
            [("user", "Q\n\nI")],
            (AB, (2, 1), None, "annotator7"),
        ),
        (
            {
                "question": "Q",
                "solutions": [
                    {"solution": "A", "is_correct": False},
                    {"solution": "B", "is_correct": True},
                    {"solution": "C", "is_correct": False},
                ],
            },
            ASKED,
            (("A", "B", "C"), (2, 1, 2)),
        ),
        (
            {"prompt": "Q", "answers": ["A", "B"], "ranks": [1, 1], "annotator": "me"},
            ASKED,
            (AB, (1, 1), None, "me"),
        ),
        ({"messages": [USER], "answers": ["A"], "ranks": [2]}, ASKED, (("A",), (2,))),
        (
            {"prompt": "Q", "answers": ["A", "B", "C"], "scores": [3, 4.5, 3]},
            ASKED,
            (("A", "B", "C"), (2, 1, 2), (3.0, 4.5, 3.0)),
        ),
        ({"prompt": "Q", "completion": "A", "label": True}, ASKED, (("A",), (1,))),
        ({"prompt": "Q", "answer": "A", "label": False}, ASKED, (("A",), (2,))),
        ({"prompt": [USER], "completion": [A], "label": True}, ASKED, (("A",), (1,))),
    ],
)
def test_shapes(file, row: dict, turns: list, expected: tuple):
    (found,), said = _read(_write(file, row), strict=True)
    assert _turns(found) == turns and not said
    assert found == Judged(found.messages, *expected)._replace(file=str(file), line=1)


RANKED = {"prompt": "Q", "answers": ["A", "B"]}
VERDICT = {"instruction": "Q", "response1": "A", "response2": "B"}


@pytest.mark.parametrize(
    "row, why",
    [
        ([1], "a list and no object"),
        ({"prompt": "Q"}, r"its fields \(prompt\) are those of no form"),
        ({"prompt": "Q", "answers": ["A"]}, "its fields .* are those of no form"),
        (
            {
                "chosen": f"{HUMAN}\n\nAssistant: A",
                "rejected": f"{HUMAN}2\n\nAssistant:",
            },
            "chosen and rejected part at turn 1, before their last answers",
        ),
        (
            {"chosen": "A", "rejected": "B"},
            "its chosen does not begin with a blank line and 'Human:'",
        ),
        (
            {"chosen": HUMAN, "rejected": HUMAN},
            "one ends with the user's turn, not the assistant's",
        ),
        (
            {"chosen": "\n\nAssistant: A", "rejected": "\n\nAssistant: B"},
            "what is answered does not end with a user's turn",
        ),
        (
            {"chosen": [USER, A], "rejected": [USER, A, USER, B]},
            "chosen and rejected part at turn 2, before their last answers",
        ),
        (
            {"prompt": "other", "chosen": [USER, A], "rejected": [USER, B]},
            "its prompt is not among the turns of its answers",
        ),
        ({"chosen": [A], "rejected": [B]}, "what is answered does not end"),
        ({"prompt": "Q", "chosen": "A", "rejected": ["B"]}, "its rejected is a list"),
        ({"prompt": "Q", "chosen": None, "rejected": "B"}, "its turns are null"),
        ({"prompt": " ", "chosen": "A", "rejected": "B"}, "turn 1, the user's, is emp"),
        ({**VERDICT, "annotator1": 3}, "its annotator1 is '3', not 0, 1 or 2"),
        ({**VERDICT, "annotator1": True}, "its annotator1 is 'True', not 0, 1 or 2"),
        ({**VERDICT, "response1": 1, "annotator1": 0}, "its response1 is a number"),
        ({"question": "Q", "solutions": []}, "its solutions are an empty list"),
        ({"question": "Q", "solutions": ["A"]}, "solution 1 is a text and no object"),
        (
            {"question": "Q", "solutions": [{"solution": "A", "is_correct": 1}]},
            "solution 1's is_correct is a number, not true or false",
        ),
        ({**RANKED, "ranks": [1]}, "it has 2 answers and 1 ranks"),
        ({**RANKED, "ranks": [0, 1]}, "one of its ranks is '0', not 1, 2"),
        ({**RANKED, "ranks": [1, 1.5]}, "one of its ranks is '1.5', not 1, 2"),
        (
            {**RANKED, "answers": ["A"], "ranks": [3]},
            "the rank of its one answer is not 1 .good.",
        ),
        ({**RANKED, "answers": ["A", 2], "ranks": [1, 2]}, "one of its answers is a n"),
        (
            {**RANKED, "answers": ["A", "\ud800"], "ranks": [1, 2]},
            "answer 2 holds half",
        ),
        ({**RANKED, "ranks": [1, 2], "annotator": 5}, "its annotator is a number"),
        ({**RANKED, "scores": [1, "2"]}, "one of its scores is a text and no number"),
        ({**RANKED, "scores": [1, 10**400]}, "one of its scores is 1000.*, not finite"),
        (
            {**RANKED, "answers": ["A"], "scores": [1]},
            "it has 1 answers and 1 scores; two of each",
        ),
        ({"prompt": "Q", "answer": "A", "label": 1}, "its label is a number, not true"),
        ({"prompt": "Q", "answer": 5, "label": True}, "its answer is a number and no"),
        (
            {"prompt": "Q", "answer": [USER], "label": True},
            "its answer is not one turn",
        ),
        ({"messages": [A], "answer": "A", "label": True}, "what is answered does not"),
    ],
)
def test_a_row_that_is_no_preference_says_why(file, row, why: str):
    with pytest.raises(UserError, match=rf":1: {why}.*a row is one of dialogues: "):
        _read(_write(file, row), strict=True)
    with pytest.raises(UserError, match=rf"no preference in it \(line 1: {why}"):
        _read(_write(file, row))


def test_rows_left_out_are_counted(file):
    good = {"prompt": "Q", "completion": "A", "label": True}
    found, said = _read(_write(file, good, {**good, "label": "yes"}, 5, good))
    assert [judged.line for judged in found] == [1, 4]
    (line,) = said
    assert line.startswith(f"{file}: left out 2 of 4 rows: line 2: its label is a text")
    with pytest.raises(UserError, match="form 'hh' is none; there are auto, dialogues"):
        _read(str(file), form="hh")


def test_pairs_of_a_ranking():
    counted = LeftOut()
    messages = [USER]
    ranked = Judged(messages, ("a", "b", "c"), (2, 1, 2), (0.5, 2.0, 0.5))
    assert comparisons(ranked, counted) == [
        Comparison("b", "a", 1.5),
        Comparison("b", "c", 1.5),
    ]
    assert counted == LeftOut(ties=1)
    assert comparisons(Judged(messages, ("a", "b", "c"), (3, 1, 2)), counted) == [
        Comparison("b", "a", 0.0),
        Comparison("c", "a", 0.0),
        Comparison("b", "c", 0.0),
    ]
    for answers in (("a", "a"), ("a", " \n")):
        assert comparisons(Judged(messages, answers, (1, 2)), counted) == []
    assert comparisons(Judged(messages, ("a", "b"), (1, 1)), counted) == []
    assert comparisons(Judged(messages, ("a",), (1,)), counted) == []
    assert counted == LeftOut(same=1, empty=1, ties=2, bare=4)
    assert counted.describe() == (
        "left out pairs: 1 of the same text, 1 with an empty answer, 2 tied;"
        " 4 judgements give no pair"
    )
    assert LeftOut(bare=1_000).describe() == "1,000 judgements give no pair"
    assert LeftOut().describe() == ""


JSON = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
FIELD = st.sampled_from(
    "prompt messages chosen rejected instruction input response1 response2 annotator1"
    " question solutions solution is_correct answers ranks scores completion answer"
    " label annotator role content user assistant".split()
)
NEAR = st.recursive(
    FIELD | JSON | st.sampled_from([f"{HUMAN}\n\nAssistant: A", USER, A, 1, 2, True]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(FIELD, inner, max_size=6),
    max_leaves=12,
)


@given(row=NEAR)
def test_whatever_a_row_is_it_is_read_or_says_why(row):
    for form in PREFERENCES.forms:
        try:
            found = PREFERENCES.read(row, form)
        except Unfit as why:
            assert str(why)
        else:
            for judged in found:
                assert len(judged.answers) == len(judged.ranks) > 0
                assert json.dumps(judged).encode()
                comparisons(judged, LeftOut())
