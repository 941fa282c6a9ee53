"""EleutherAI's harness on a model of ours, beside our own harness on the same rows."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from genlm.evaluate import harness, tasks
from genlm.evaluate.harness import Question
from genlm.evaluate.likelihood import Candidate
from genlm.tokenizer.byte import ByteTokenizer
from tests.laws import families

pytest.importorskip("lm_eval", reason="lm-eval is not installed: genlm[lm-eval]")
pytestmark = pytest.mark.slow
CONFIG = dataclasses.replace(
    families.BASE, vocab_size=ByteTokenizer.vocab_size, max_length=64
)
MODEL = Candidate(families.weights(CONFIG), CONFIG, ByteTokenizer())
ROWS = [
    {"q": f"{a} and {b} are", "choices": [str(a + b), "a few", "none "], "gold": a % 3}
    for a in range(6)
    for b in range(4)
]
TASK = {
    "task": "mine",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "mine.jsonl").write_text(lines)
    files = {"data_files": {"test": str(tmp_path / "mine.jsonl")}}
    yaml = json.dumps(TASK | {"dataset_kwargs": files})  # JSON is YAML
    (tmp_path / "mine.yaml").write_text(yaml)
    return tmp_path


def test_its_accuracies_are_ours(folder: Path):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from genlm.evaluate.lm_eval_model import GenlmLM

    theirs = simple_evaluate(
        model=GenlmLM(MODEL),
        tasks=["mine"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )["results"]["mine"]
    task = tasks.Task(
        "mine",
        "choices",
        ("mine.jsonl",),
        "",
        "",
        context="{q}",
        choices="choices",
        gold="gold",
    )
    ours = harness.measure(MODEL, Question(task, tasks.read(task, folder))).metrics
    assert theirs["acc,none"] == pytest.approx(ours["accuracy"].value)
    assert theirs["acc_norm,none"] == pytest.approx(ours["accuracy_normalised"].value)


def test_texts_and_answers_of_its_requests():
    from genlm.evaluate.lm_eval_model import GenlmLM

    model = GenlmLM(MODEL)

    def request(*args: object) -> SimpleNamespace:
        return SimpleNamespace(args=args)

    text = "a text that is longer than the sixty-four bytes which this model looks back"
    (whole,) = model.loglikelihood_rolling([request(text)])
    ((at_once, _),) = model.loglikelihood([request("", text)])
    assert whole == pytest.approx(at_once, rel=1e-5)
    greedy = {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}
    prompts = [request("one", greedy), request("two", greedy | {"max_gen_toks": 3})]
    long, short = model.generate_until(prompts)
    assert (long, short) == (
        model.generate_until(prompts[:1])[0],
        model.generate_until(prompts[1:])[0],
    )
    ((_, is_greedy),) = model.loglikelihood([request("two", short)])
    assert is_greedy or "\ufffd" in short  # bytes that are no text are not spelt back
