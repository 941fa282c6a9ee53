"""Conversations as a task: what is held out, graded, and said of stopping."""

from pathlib import Path

import pytest

from genlm import stages
from genlm.data import synthetic
from genlm.errors import UserError
from genlm.evaluate import tasks
from genlm.interop.run import open_run
from genlm.stages import measuring
from genlm.stages.measuring import TasksConfig
from tests.stages import made


def test_only_what_training_leaves_out_is_asked():
    task = tasks.load("questions")
    rows = tasks.read(task, Path("."), 60)
    assert len(rows) == 60
    for row in rows:
        assert synthetic.is_held_out(row.fields, task.held_out)
        assert row.field("messages")[-1]["role"] == "assistant"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    data = made.questions(folder / "questions.jsonl")
    stages.run(made.sft(made.pretrained(folder), data), folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_answers_are_graded_and_stops_counted(tuned: Path):
    opened = open_run(tuned)
    questions = TasksConfig(("questions",), "", 12).questions()
    found = measuring.measure(opened, tuned, questions)
    metrics = found.tasks["questions"]["metrics"]
    assert set(metrics) == {"score", "stopped"}
    assert len(found.rows) == 12
    stopped = [row["stopped"] for row in found.rows]
    assert metrics["stopped"]["value"] == sum(stopped) / 12
    assert set(found.tasks["questions"]["groups"]) <= {
        "arithmetic",
        "docstring",
        "string",
    }


@pytest.mark.slow
def test_a_model_without_a_chat_format_is_said(tuned: Path):
    base = tuned.parent / "base"
    questions = TasksConfig(("questions",), "", 2).questions()
    with pytest.raises(UserError, match="no chat template"):
        measuring.measure(open_run(base), base, questions)


def test_a_share_is_checked(tmp_path: Path):
    text = '{"kind": "conversation", "data": "x.jsonl", "licence": "", "note": "",'
    text += ' "grader": "exact", "max_tokens": 4, "held_out": 2.0}'
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(UserError, match="held_out is from 0 to 1"):
        tasks.load(str(tmp_path / "mine.json"))
