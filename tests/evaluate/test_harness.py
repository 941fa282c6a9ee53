"""Tasks on a tiny model, beside what its logits say by hand."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from genlm.evaluate import calibration, generations, harness, metrics, statistics, tasks
from genlm.evaluate.harness import Question
from genlm.evaluate.likelihood import Candidate
from genlm.tokenizer.byte import ByteTokenizer
from tests.laws import families

TOKENIZER = ByteTokenizer()
CONFIG = dataclasses.replace(
    families.BASE, vocab_size=TOKENIZER.vocab_size, max_length=64
)
MODEL = Candidate(families.weights(CONFIG), CONFIG, TOKENIZER)
PAIRS = [("a cat sat", "a cat sits"), ("dogs bark", "dogs barks"), ("so", "soo")]
QUESTIONS = [
    {"q": "up or", "choices": ["down", "a"], "gold": 0},
    {"q": "one and", "choices": ["two", "three", "nothing at all"], "gold": 1},
]


def _measure(folder: Path, rows: list[dict[str, Any]], **task: Any) -> harness.Result:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, "utf-8")
    content = {"data": "rows.jsonl", "licence": "CC0", "note": "", **task}
    (folder / "mine.json").write_text(json.dumps(content))
    read = tasks.load(str(folder / "mine.json"))
    found = tasks.read(read, folder)
    return harness.measure(
        MODEL, Question(read, found, tasks.solved_rows(read, folder))
    )


def _logprobs(before: str, after: str) -> np.ndarray:
    """log p of each byte of `after`, by hand."""
    ids = [TOKENIZER.special.bos, *before.encode(), *after.encode()]
    logits_BTV = families.logits(CONFIG, families.alone([ids], 64))
    logp_TV = np.asarray(jax.nn.log_softmax(logits_BTV[0]))
    return logp_TV[np.arange(len(ids) - 1), ids[1:]][len(before) :]


def test_minimal_pairs_by_hand(tmp_path: Path):
    rows = [{"good": good, "bad": bad, "of": good[0]} for good, bad in PAIRS]
    pair = {"good": "{good}", "bad": "{bad}", "group": "of"}
    result = _measure(tmp_path, rows, kind="minimal_pairs", **pair)
    for record, (good, bad) in zip(result.records, PAIRS, strict=True):
        by_hand = [_logprobs("", f" {text}").sum() for text in (good, bad)]
        assert record["logprobs"] == pytest.approx(by_hand, abs=1e-4)
        assert record["accuracy"] == float(by_hand[0] > by_hand[1])
        share = 1 / (1 + math.exp(-abs(by_hand[0] - by_hand[1])))
        assert record["confidence"] == pytest.approx(share, abs=1e-4)
    right = [record["accuracy"] for record in result.records]
    assert result.metrics["accuracy"].value == pytest.approx(np.mean(right))
    assert result.as_json()["groups"] == {"a": right[0], "d": right[1], "s": right[2]}


@pytest.mark.parametrize("normalise", tasks.NORMALISED)
def test_choices_by_hand_plain_and_normalised(normalise: str, tmp_path: Path):
    task = {"kind": "choices", "context": "{q}", "choices": "choices", "gold": "gold"}
    result = _measure(tmp_path, QUESTIONS, **task, normalise=normalise)
    for record, row in zip(result.records, QUESTIONS, strict=True):
        sums = [_logprobs(row["q"], f" {text}").sum() for text in row["choices"]]
        assert record["chosen"] == np.argmax(sums)
        extra = 1 if normalise == "tokens" else 0  # a byte a token; the space is one
        each = np.asarray(sums) / [len(text) + extra for text in row["choices"]]
        right = float(np.argmax(each) == row["gold"])
        assert record["accuracy_normalised"] == right


def test_one_continuation_after_several_contexts(tmp_path: Path):
    row = {"names": ["He saw Ann and", "He saw Bob and"], "rest": "left.", "gold": 1}
    task = {"contexts": "names", "continuation": "{rest}", "gold": "gold"}
    (record,) = _measure(tmp_path, [row], kind="choices", **task).records
    by_hand = [_logprobs(name, " left.").sum() for name in row["names"]]
    assert record["logprobs"] == pytest.approx(by_hand, abs=1e-4)
    assert "accuracy_normalised" not in record


def test_last_words_by_hand(tmp_path: Path):
    task = {"kind": "last_word", "context": "{c}", "continuation": "{w}"}
    rows = [{"c": "to be or not", "w": "to"}, {"c": "well", "w": "x"}]
    result = _measure(tmp_path, rows, **task)
    by_hand = [_logprobs(row["c"], f" {row['w']}").sum() for row in rows]
    found = [record["logprob"] for record in result.records]
    assert found == pytest.approx(by_hand, abs=1e-4)
    expected = math.exp(-sum(by_hand) / 2)
    assert result.metrics["perplexity"].value == pytest.approx(expected, rel=1e-3)


def test_bits_of_a_text_add_up_whatever_its_blocks(tmp_path: Path, monkeypatch):
    text = "It is a truth universally acknowledged. " * 3
    whole = _measure(tmp_path, [{"text": text}], kind="text")
    windows = [text[i : i + 64] for i in range(0, len(text), 64)]
    assert len(windows) == 2
    first = _logprobs("", windows[0]).sum()
    ids = list(text.encode())[-65:]  # the last 64 read, and the one after them
    logits_BTV = families.logits(CONFIG, families.alone([ids], 64))
    logp_TV = np.asarray(jax.nn.log_softmax(logits_BTV[0]))
    rest = logp_TV[np.arange(64), ids[1:]][-(len(text) - 64) :].sum()
    bits = -(first + rest) / math.log(2) / len(text)
    assert whole.metrics["bits_per_byte"].value == pytest.approx(bits, rel=1e-4)
    monkeypatch.setattr("genlm.evaluate.texts.BLOCK", 50)
    cut = _measure(tmp_path, [{"text": text}], kind="text")
    assert [record["bytes"] for record in cut.records] == [50, 50, 20]
    assert cut.metrics["bits_per_byte"].value == pytest.approx(bits, rel=1e-4)


def test_answers_are_cut_and_graded_after_solved_rows(tmp_path: Path):
    task = {
        "kind": "generation",
        "context": "{q}=",
        "answer": "a",
        "grader": "exact",
        "max_tokens": 4,
        "between": "",
        "shots": 1,
        "shots_data": "rows.jsonl",
    }
    rows = [{"q": "1+1", "a": "2"}, {"q": "2+3", "a": ["5", "five"]}]
    result = _measure(tmp_path, rows, **task)
    for record, row in zip(result.records, rows, strict=True):
        prompt = f"1+1=2\n\n{row['q']}="
        alone = {"max_tokens": 4, "stop": (), "title": "one"}
        assert [record["answer"]] == generations.write(MODEL, [prompt], **alone)
        assert record["score"] == float(record["answer"].strip() in row["a"])
    assert generations.cut("four\nQ: and", ("Q:", "\n")) == "four"
    assert generations.cut("four", ("Q:",)) == "four"


def test_calibration_by_hand():
    confidence = np.asarray([0.9, 0.95, 0.5, 1.0])
    is_right = np.asarray([1.0, 0.0, 1.0, 1.0])
    # fifteenths: 0.9 in the 14th; 0.95 and 1.0 in the 15th; 0.5 in the 8th
    bins = calibration.reliability(confidence, is_right)
    assert [each.n for each in bins] == [1, 1, 2]
    assert bins[2] == pytest.approx((0.975, 0.5, 2))
    expected = (1 * abs(0.5 - 1) + 1 * abs(0.9 - 1) + 2 * abs(0.975 - 0.5)) / 4
    assert calibration.error(confidence, is_right) == pytest.approx(expected)


def test_rows_are_compared_in_pairs():
    random = np.random.default_rng(0)
    easy = random.random(400)

    def records(skill: float) -> list[dict[str, Any]]:
        return [
            {"file": "f", "row": n, "accuracy": float(easy[n] < skill)}
            for n in range(400)
        ]

    better = metrics.difference("accuracy", records(0.55), records(0.5))
    assert better is not None and statistics.is_clear(better) and better.n == 400
    same = metrics.difference("accuracy", records(0.5), records(0.5)[100:])
    assert same is not None and same.n == 300 and same.value == 0
    assert not statistics.is_clear(same)
    assert metrics.difference("accuracy", records(0.5)[:1], records(0.5)[1:]) is None
