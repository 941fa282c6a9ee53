"""Training to tell texts apart: what is read, what comes out, what is refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from genlm import stages
from genlm.data import batches, labelled
from genlm.data.reading import Reading
from genlm.errors import UserError
from genlm.evaluate import classification
from genlm.interop.classifier import open_classifier
from genlm.interop.run import open_run, read_params
from genlm.runs import lineage, metrics
from genlm.stages import prepare_labelled
from genlm.stages.prepare import Prepared
from genlm.tokenizer.byte import ByteTokenizer
from tests.stages import made


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("classify")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return made.labelled(folder / "rows.jsonl")


@pytest.fixture(scope="module")
def told(folder: Path, data: Path) -> Path:
    """From scratch, two steps."""
    stages.run(made.classify("", data, seed=3), folder / "told")
    return folder / "told"


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return made.pretrained(folder)


def test_rows_hold_each_text_once_and_its_class_is_the_target_of_its_stop(told, data):
    prepared = Prepared(told / "data")
    expected = labelled.read(str(data), valid_fraction=0.2, seed=3)
    for split, part in (("train", expected.train), ("valid", expected.valid)):
        tokens, rows = prepared.split(split)
        batch = batches.gather(tokens, rows, np.arange(len(rows)), pad=256)
        found = set()
        for row, slot in zip(*np.nonzero(batch["weights"])):
            own = batch["segments"][row] == batch["segments"][row, slot]
            ids = batch["tokens"][row, : slot + 1][own[: slot + 1]]
            assert ids[0] == 257 and ids[-1] == 258
            found.add((bytes(ids[1:-1].tolist()).decode(), batch["targets"][row, slot]))
        assert found == set(zip(part.texts, part.labels))
        assert tokens.trained == len(part.texts) == len(found)


def test_a_run_says_how_good_it_is_and_on_which_texts(told: Path, data: Path):
    last = metrics.read(told / "metrics.jsonl")[-1]
    results = json.loads((told / "results.json").read_text())
    lines = (told / "predictions.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    expected = labelled.read(str(data), valid_fraction=0.2, seed=3).valid
    assert [row["text"] for row in rows] == expected.texts
    names = ["first", "last", "title"]
    labels = np.asarray([names.index(row["label"]) for row in rows])
    assert np.array_equal(labels, expected.labels)
    probabilities = np.asarray([row["probabilities"] for row in rows])
    for name, score in (
        ("accuracy", classification.accuracy(labels, probabilities.argmax(1))),
        ("macro_f1", classification.macro_f1(labels, probabilities.argmax(1))),
        ("roc_auc", classification.roc_auc(probabilities, labels)),
        ("ece", classification.calibration_error(probabilities, labels)),
    ):
        assert np.isclose(last[name], score, atol=2e-3), name
        assert np.isclose(results[name]["value"], score, atol=2e-3), name
        assert results[name]["low"] <= results[name]["value"]
    own = probabilities[np.arange(len(labels)), labels]
    assert np.isclose(last["valid_loss"], -np.log(own).mean(), atol=1e-4)
    assert np.sum(results["confusion"]) == len(labels) == results["texts"]
    assert lineage.faults(told) == []


def test_a_finished_run_opens_and_says_the_same(told: Path):
    rows = [json.loads(line) for line in open(told / "predictions.jsonl", "rb")]
    opened = open_classifier(told)
    found = opened.probabilities([row["text"] for row in rows])
    assert np.allclose(found, [row["probabilities"] for row in rows], atol=2e-6)
    assert opened.labels == ("first", "last", "title") and opened.step == 2
    alone = opened.probabilities([rows[0]["text"]])
    assert np.allclose(alone[0], found[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_run_is_gone_on_from(folder, source, data, rank: int):
    """All of its parameters, or a low-rank change beside them."""
    recipe = made.classify(str(source), data, lora__rank=rank)
    recipe.head.class_weights = "balanced"
    stages.run(recipe, folder / f"rank{rank}")
    before, after = open_run(source), open_classifier(folder / f"rank{rank}")
    held = read_params(folder / f"rank{rank}")
    assert held.keys() == {"model", "head"} and np.any(held["head"]["weight"])
    is_same = np.array_equal(
        before.params["embedding"], after.params["model"]["embedding"]
    )
    assert is_same == (rank > 0)
    q = [p["layers"]["attention"]["q"] for p in (before.params, after.params["model"])]
    assert not np.array_equal(*q)
    assert lineage.faults(folder / f"rank{rank}") == []


@pytest.mark.slow
def test_the_head_learns_at_a_rate_of_its_own(folder, source, data):
    rules = ("model/* rate=0", "head/* rate=3")
    recipe = made.classify(str(source), data, optimizer__rules=rules)
    stages.run(recipe, folder / "head")
    before, held = open_run(source), read_params(folder / "head")
    jax.tree.map(np.testing.assert_array_equal, before.params, held["model"])
    assert np.any(held["head"]["weight"])


@pytest.mark.parametrize("keep, text", [("beginning", b"abcde"), ("end", b"defgh")])
def test_of_a_long_text_one_end_is_read(keep: str, text: bytes):
    reading = Reading(7, keep)
    ids, is_cut = reading.ids(ByteTokenizer(), "abcdefgh")
    assert ids.tolist() == [257, *text, 258] and is_cut
    ids, is_cut = reading.ids(ByteTokenizer(), "abcde")
    assert ids.tolist() == [257, *b"abcde", 258] and not is_cut


def test_a_long_text_is_counted(folder, capsys):
    rows = [{"text": f"{n} " * (50 if n < 4 else 5), "label": n % 2} for n in range(20)]
    file = folder / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = made.classify("", file, data__row_length=30, data__keep="end")
    prepare_labelled.run(recipe, folder / "long", None)
    said = capsys.readouterr().out
    assert "4 texts are longer than a row of 30 tokens; of these the end" in said


MISTAKES = {
    "pool": ({"head__pool": "first"}, "head.pool 'first' is none of"),
    "weights": ({"head__class_weights": "even"}, "class_weights 'even' is none of"),
    "lora": ({"lora__rank": 2}, "name it in source"),
    "keep": ({"data__keep": "middle"}, "data.keep 'middle' is none"),
    "short rows": ({"data__row_length": 2}, "data.row_length 2 has no room for a text"),
    "a field": ({"data__label_field": "klass"}, "no field 'klass'"),
    "a rule": ({"optimizer__rules": ("heads/* rate=2",)}, "matches none of"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_said(name: str, tmp_path: Path, data: Path):
    changes, words = MISTAKES[name]
    with pytest.raises(UserError, match=words):
        stages.run(made.classify("", data, **changes), tmp_path / "run")


def test_a_class_that_is_only_validated_on_is_said(tmp_path, data):
    other = tmp_path / "valid.jsonl"
    other.write_text(json.dumps({"text": "new", "label": "middle"}) + "\n")
    recipe = made.classify("", data, data__valid_paths=str(other))
    with pytest.raises(UserError, match='no text to train on has the class "middle"'):
        stages.run(recipe, tmp_path / "run")


def test_more_classes_than_tokens_are_refused(tmp_path):
    file = tmp_path / "many.jsonl"
    rows = ({"text": f"text {n}", "label": n // 2} for n in range(600))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="300 classes, .* one of 259 tokens"):
        stages.run(made.classify("", file), tmp_path / "run")


def test_data_without_classes_is_refused(tmp_path, source, data):
    prepared = str(source / "data")
    recipe = made.classify("", data, data__prepared=prepared)
    with pytest.raises(UserError, match="has no classes"):
        stages.run(recipe, tmp_path / "run")


def test_labels_that_read_alike_are_told_apart():
    assert prepare_labelled.class_names((False, 1, "a")) == ["false", "1", "a"]
    assert prepare_labelled.class_names((1, "1")) == ["1", '"1"']
