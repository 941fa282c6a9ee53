"""Tasks whose rows check the answers: instructions, code, refusals, on runs."""

import json
from pathlib import Path

import pytest

from genlm import stages
from genlm.cli.__main__ import main
from genlm.errors import UserError
from genlm.evaluate import checked, generations, harness, tasks
from genlm.evaluate.harness import Question
from genlm.evaluate.likelihood import Candidate
from genlm.interop.run import open_run
from genlm.stages import measuring
from genlm.stages.measuring import TasksConfig
from tests.data_files import write_names
from tests.evaluate import test_harness as tiny
from tests.stages import made

CHECKED = {
    "kind": "checked",
    "data": "rows.jsonl",
    "licence": "CC0",
    "note": "",
    "context": "{prompt}",
    "max_tokens": 4,
}
COMMA = {
    "prompt": "Write",
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    "kwargs": [{}, {}],
}
SUM = {
    "prompt": "def add(a, b):\n",
    "test": "def check(f):\n    assert f(1, 2) == 3\n",
    "entry_point": "add",
}


def _question(folder: Path, *rows: dict, **task: object) -> Question:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, "utf-8")
    (folder / "mine.json").write_text(json.dumps(CHECKED | task))
    config = TasksConfig((str(folder / "mine.json"),), str(folder), 0)
    return config.questions()[0]


def _said(monkeypatch, *answers: str) -> Candidate:
    """The tiny model, that says what it is told to."""
    monkeypatch.setattr(generations, "write", lambda *_, **__: list(answers))
    return tiny.MODEL


def test_instructions_strict_loose_and_by_instruction(tmp_path: Path, monkeypatch):
    question = _question(tmp_path, COMMA, COMMA, COMMA, grader="ifeval")
    model = _said(monkeypatch, '"one two"', "one, two", 'Sure:\n"one"')
    result = harness.measure(model, question)
    assert [record["score"] for record in result.records] == [1, 0, 0]
    assert [record["followed"] for record in result.records] == [2, 0, 1]
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values == pytest.approx(
        {
            "score": 1 / 3,
            "score_loose": 2 / 3,
            "instructions_followed": 3 / 6,
            "instructions_followed_loose": 4 / 6,
        }
    )
    content = json.dumps(result.as_json())
    assert '"better": "higher"' in content and "NaN" not in content


def test_what_a_tiny_model_writes_is_checked(tmp_path: Path):
    question = _question(tmp_path, COMMA, grader="ifeval")
    (record,) = harness.measure(tiny.MODEL, question).records
    alone = {"max_tokens": 4, "stop": (), "title": "one"}
    assert [record["answer"]] == generations.write(tiny.MODEL, ["Write"], **alone)
    assert record["asked"] == "text" and record["file"] == "rows.jsonl"
    assert question.texts() == ["Write"]


def test_rows_are_checked_before_anything_is_written(tmp_path: Path):
    with pytest.raises(UserError, match="rows.jsonl line 2: no list 'instruction_id"):
        _question(tmp_path, COMMA, {"prompt": "x"}, grader="ifeval")
    with pytest.raises(UserError, match="rows.jsonl line 1: no field 'should_refuse'"):
        _question(tmp_path, COMMA, grader="refusal")
    with pytest.raises(UserError, match="rows.jsonl line 1: no field 'promt'; did"):
        _question(tmp_path, COMMA, grader="ifeval", context="{promt}")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"grader": "exact"}, "not so: grader is one of"),
        ({"grader": "ifeval", "asked": "loudly"}, "not so: asked is one of"),
        ({"grader": "code", "run_code": True}, "no key 'run_code' in this kind"),
        ({"grader": "ifeval", "answer": "a"}, "no key 'answer' in this kind"),
    ],
)
def test_what_is_wrong_with_a_description(change: dict, words: str, tmp_path: Path):
    with pytest.raises(UserError, match=words):
        _question(tmp_path, COMMA, **change)


def test_code_is_run_by_an_explicit_switch_alone(tmp_path: Path, monkeypatch):
    with pytest.raises(UserError, match="'code' runs generated .* --run-code"):
        _question(tmp_path, SUM, grader="code")
    path = str(tmp_path / "mine.json")
    task = tasks.load(path)
    assert task.run_code is False
    question = Question(task, tasks.read(task, tmp_path))
    model = _said(monkeypatch, "    return a + b")
    with pytest.raises(UserError, match="'code' runs generated .* --run-code"):
        checked.measure(model, task, question.rows, "")
    (allowed,) = TasksConfig((path,), str(tmp_path), 0, run_code=True).questions()
    try:
        assert harness.measure(model, allowed).metrics["score"].value == 1
    except UserError as error:
        assert "no jail can be built" in str(error)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checked")
    names = write_names(folder / "names.txt", 200)
    command = ["run", "experiments/pretrain_names.py:smoke", "--workdir"]
    assert main([*command, f"{folder}/run", f"--config.data.paths={names}"]) == 0
    return folder / "run"


@pytest.mark.slow
def test_safety_of_any_run(run: Path, capsys):
    """A model of names answers nothing, so it refuses nothing."""
    assert main(["eval", "--from", str(run), "--tasks", "safety", "--limit", "8"]) == 0
    said = capsys.readouterr().out
    assert "safety: 8 rows" in said and "score\n" in said
    assert "refused where due" in said and "over refused (lower is better)" in said
    command = ["eval", "--from", str(run), "--tasks", "safety", "--limit=1", "--json"]
    assert main(command) == 0
    assert "NaN" not in capsys.readouterr().out


def test_code_is_refused_in_one_line(run: Path, mistake_here):
    said = mistake_here("eval", "--from", run, "--tasks", "human_eval", "--data", ".")
    assert "has to be switched on: --run-code" in said and "docs/graders.md" in said


@pytest.mark.slow
def test_a_model_of_conversations_is_asked_in_turns(tmp_path: Path):
    data = made.questions(tmp_path / "questions.jsonl")
    stages.run(made.sft(made.pretrained(tmp_path), data), tmp_path / "run")
    questions = TasksConfig(("safety",), "", 4).questions()
    found = measuring.measure(open_run(tmp_path / "run"), tmp_path / "run", questions)
    assert [row["asked"] for row in found.rows] == ["turn"] * 4
    assert "refused_where_due" in found.tasks["safety"]["metrics"]
