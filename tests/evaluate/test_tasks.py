"""Descriptions and rows: those of the project, and what is wrong with others."""

import json
from pathlib import Path

import pytest

from genlm.errors import UserError
from genlm.evaluate import choices, harness, tasks
from tests.data_files import shared

OWN = {"kind": "text", "data": "t.jsonl", "licence": "CC0", "note": "ours"}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize("name", tasks.names())
def test_the_descriptions_of_the_project_parse(name: str):
    task = tasks.load(name)
    assert task.licence and task.note and task.name == name


@pytest.mark.parametrize("name", tasks.names())
def test_the_descriptions_fit_their_data(name: str):
    task = tasks.load(name)
    data = shared(task.data[0]).parents[1]
    rows, shots = tasks.read(task, data), tasks.solved_rows(task, data)
    assert len(rows) >= 60 and len(shots) == task.shots
    assert all(harness.Question(task, rows, shots).texts())
    if task.kind in ("choices", "minimal_pairs"):
        for row in rows:
            assert len(set(choices.question(task, row).texts)) > 1


def test_prompts_are_those_of_lm_eval():
    """By hand from its own task files."""
    data = shared("eval/arc_easy.jsonl").parents[1]

    def first(name: str) -> choices.Question:
        task = tasks.load(name)
        return choices.question(task, tasks.read(task, data, 1)[0])

    context, choice = first("arc_easy").pairs[0]
    assert context.startswith("Question: ") and context.endswith("?\nAnswer:")
    assert choice == " amoeba"
    context, choice = first("piqa").pairs[0]
    assert context == "Question: To save money on storage bags,\nAnswer:"
    assert choice.startswith(" after using")
    context, choice = first("winogrande").pairs[1]
    assert context.endswith(" and Robert") and choice == " became apologetic."
    assert first("blimp").pairs[0] == ("", " Laurie hasn't lifted those cacti.")


WRONG = {
    "kind": ({"kind": "choice"}, "kind is not one of choices, minimal_pairs"),
    "a key": (
        OWN | {"tetx": "body"},
        "no key 'tetx' in this kind; did you mean 'text'",
    ),
    "no data": ({"kind": "text", "licence": "", "note": ""}, "lacks 'data'"),
    "a type": (OWN | {"text": 3}, "text is 3, expected str"),
    "no answer": (OWN | {"kind": "generation", "context": "{q}"}, "lacks 'answer'"),
    "a grader": (
        OWN
        | {
            "kind": "generation",
            "context": "{q}",
            "answer": "a",
            "grader": "exakt",
            "max_tokens": 5,
        },
        "grader is one of",
    ),
    "choices of both kinds": (
        OWN | {"kind": "choices", "gold": "g", "choices": "c", "contexts": "d"},
        "choices and a context, or contexts",
    ),
    "shots of nothing": (
        OWN | {"kind": "last_word", "context": "a", "continuation": "b", "shots": 2},
        "shots come with shots_data",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_description(name: str, tmp_path: Path):
    content, words = WRONG[name]
    with pytest.raises(UserError, match="task mine") as error:
        tasks.load(str(write(tmp_path / "mine.json", content)))
    assert words in str(error.value)


def test_a_task_that_is_not_known():
    with pytest.raises(UserError, match="no task 'arc_esay'; did you mean 'arc_easy'"):
        tasks.load("arc_esay")
    with pytest.raises(UserError, match="cannot read task nothing.json: No such"):
        tasks.load("nothing.json")


def _rows(tmp_path: Path, *lines: str, **changes: object) -> list[tasks.Row]:
    (tmp_path / "t.jsonl").write_text("\n".join(lines), "utf-8")
    task = tasks.load(str(write(tmp_path / "mine.json", OWN | changes)))
    return tasks.read(task, tmp_path)


def test_rows_say_where_they_are_wrong(tmp_path: Path):
    with pytest.raises(UserError, match=r"t.jsonl line 2 is not JSON"):
        _rows(tmp_path, "{}", "{", "{}")
    with pytest.raises(UserError, match=r"t.jsonl line 1 is no JSON object"):
        _rows(tmp_path, "[]")
    with pytest.raises(UserError, match="has no rows"):
        _rows(tmp_path, "", " ")
    row = _rows(tmp_path, "{}", "", '{"qeury": "x", "choices": ["a"], "gold": 1}')[1]
    with pytest.raises(UserError, match="t.jsonl line 3: no field 'query'; did you"):
        row.fill("{query}")
    with pytest.raises(UserError, match="line 3: field 'choices' is .*, not a text"):
        row.text("choices")
    asked = {"kind": "choices", "context": "", "choices": "choices", "gold": "gold"}
    (tmp_path / "asked.json").write_text(json.dumps(OWN | asked))
    with pytest.raises(UserError, match="line 3: gold is 1, and there are 1 choices"):
        choices.question(tasks.load(str(tmp_path / "asked.json")), row)


def test_data_that_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match="task copa: cannot read .*--data names"):
        tasks.read(tasks.load("copa"), tmp_path)


def test_the_right_choice_by_its_text_or_number(tmp_path: Path):
    asked = {
        "kind": "choices",
        "context": "{q}?",
        "choices": ["{a}", "{b}"],
        "gold": "right",
        "between": "",
    }
    row = json.dumps({"q": 1, "a": "x", "b": "y", "right": "y"})
    found = _rows(tmp_path, row, **asked)
    task = tasks.load(str(tmp_path / "mine.json"))
    question = choices.question(task, found[0])
    assert question == choices.Question([("1?", "x"), ("1?", "y")], ["x", "y"], 1)
    assert choices.solved(task, found[0]) == "1?y"
