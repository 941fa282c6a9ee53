"""Labelled text: classes, repeats, and a split by the text and the seed alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from genlm.data import labelled
from genlm.errors import UserError
from tests.data_files import shared


def _write(path: Path, *rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def _rows(count: int, *labels) -> list[dict]:
    return [{"text": f"t{n}", "label": labels[n % len(labels)]} for n in range(count)]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "rows.jsonl"


def test_a_real_file_with_repeats():
    data = labelled.read(str(shared("classification/sms_spam.jsonl")))
    assert data.classes == ("ham", "spam")
    assert data.repeats == 343 and data.disputed == 0
    assert data.counts() == {"ham": (3379, 376), "spam": (469, 52)}
    texts = data.train.texts + data.valid.texts
    assert len(set(texts)) == len(texts) == 4619 - 343
    rows = shared("classification/sms_spam.jsonl").read_text("utf-8").splitlines()
    told = {row["text"]: row["label"] for row in map(json.loads, rows)}
    for part in (data.train, data.valid):
        assert [told[text] for text in part.texts] == [
            data.classes[n] for n in part.labels
        ]
    assert "ham 3,379 + 376" in data.describe() and "left out 343" in data.describe()


def test_fields_are_named_or_those_that_are_common(file):
    path = str(shared("retrieval/pubmedqa.jsonl"))
    data = labelled.read(path, text_field="context", label_field="decision")
    assert data.classes == ("maybe", "no", "yes")
    with pytest.raises(
        UserError, match=r"pubmedqa.jsonl:1: no field 'label'; its .*id"
    ):
        labelled.read(path)
    with pytest.raises(UserError, match="no field 'abstract'.*set data.text_field"):
        labelled.read(path, text_field="abstract", label_field="decision")
    named = [{"sentence": f"s{n}", "category": n % 2} for n in range(8)]
    assert labelled.read(_write(file, *named)).classes == (0, 1)
    with pytest.raises(UserError, match="no field 'labels'"):
        labelled.read(str(file), label_field="labels")


def test_a_seed_is_a_split_and_another_order_of_rows_is_not(file, tmp_path):
    rows = _rows(300, "a", "a", "b")
    path = _write(file, *rows)
    other = _write(tmp_path / "other.jsonl", *rows[::-1])
    splits = []
    for seed in range(5):
        data = labelled.read(path, seed=seed, valid_fraction=0.2)
        assert data.counts() == {"a": (160, 40), "b": (80, 20)}
        held_out = set(data.valid.texts)
        assert not held_out & set(data.train.texts)
        again = labelled.read(other, seed=seed, valid_fraction=0.2)
        assert held_out == set(again.valid.texts)
        splits.append(held_out)
    for i in range(5):
        for j in range(i):
            assert 2 <= len(splits[i] & splits[j]) <= 25  # 12 by chance


def test_a_small_class_is_on_both_sides_and_a_single_text_is_trained_on(file):
    rows = [*_rows(40, "a"), {"text": "x", "label": "b"}, {"text": "y", "label": "b"}]
    rows += [{"text": "z", "label": "c"}]
    data = labelled.read(_write(file, *rows))
    assert data.counts() == {"a": (36, 4), "b": (1, 1), "c": (1, 0)}


def test_labels_are_any_scalar_of_json_and_stay_apart(file):
    names = [10, 9, "9", "b", True, False, 0.5, 1]
    data = labelled.read(_write(file, *_rows(80, *names)))
    assert list(map(repr, data.classes)) == [
        "False", "True", "0.5", "1", "9", "10", "'9'", "'b'",
    ]  # fmt: skip
    assert data.valid.labels.tolist().count(3) == 1
    assert np.bincount(data.train.labels).tolist() == [9] * 8


def test_a_text_of_two_labels_keeps_that_of_most_rows(file):
    said = [("x", "b"), ("x", "a"), ("x", "a"), ("y", "b"), ("y", "a"), ("w", "a")]
    rows = [{"text": t, "label": n} for t, n in said]
    data = labelled.read(_write(file, *rows, {"text": "v", "label": "b"}))
    found = dict(zip(data.train.texts, data.train.labels)) | dict(
        zip(data.valid.texts, data.valid.labels)
    )
    assert found == {"x": 0, "y": 1, "w": 0, "v": 1}
    assert data.disputed == 2 and data.repeats == 3
    assert "2 texts have several labels" in data.describe()


def test_files_of_their_own_to_validate_on(file, tmp_path):
    path = _write(file, *_rows(10, "a", "b"))
    other = _write(
        tmp_path / "valid.jsonl",
        {"text": "t0", "label": "a"},
        {"text": "new", "label": "b"},
    )
    data = labelled.read(path, valid_paths=other)
    assert data.valid.texts == ["t0", "new"] and data.valid.labels.tolist() == [0, 1]
    assert "t0" not in data.train.texts and len(data.train.texts) == 9
    assert data.shared == 1 and "left out of training 1" in data.describe()
    _write(Path(other), {"text": "new", "label": "c"})
    with pytest.raises(UserError, match='valid_paths: no text to train on .* "c"'):
        labelled.read(path, valid_paths=other)


@pytest.mark.parametrize(
    "row, why",
    [
        ({"text": "x"}, "its label is 'None'; a label is a text, a number"),
        ({"text": "x", "label": ["a"]}, "a label is a text"),
        ({"text": "x", "label": ""}, "a label is a text"),
        ({"text": "x", "label": float("nan")}, "its label is nan, which is no class"),
        ({"text": "x", "label": "\ud800"}, "is not UTF-8"),
        ({"text": "\ud800", "label": "a"}, "is not UTF-8"),
        ({"text": " ", "label": "a"}, "its text is ' ', no text"),
        ({"text": 3, "label": "a"}, "its text is '3', no text"),
        ({"label": "a"}, "its text is 'None', no text"),
        (["x", "a"], "no object with fields"),
    ],
)
def test_a_row_that_cannot_be_read_is_an_error_with_its_line(file, row, why: str):
    path = _write(file, *_rows(4, "a", "b"), row)
    with pytest.raises(UserError, match=f"rows.jsonl:5: .*{why}"):
        labelled.read(path)


def test_files_that_tell_no_classes_apart(file):
    with pytest.raises(UserError, match='every label is "a"'):
        labelled.read(_write(file, *_rows(4, "a")))
    with pytest.raises(UserError, match="each class has one text"):
        labelled.read(_write(file, *_rows(2, "a", "b")))
    file.write_text("\n\n")
    with pytest.raises(UserError, match="it has no row"):
        labelled.read(str(file))
    file.write_text("{")
    with pytest.raises(UserError, match="rows.jsonl:1: not JSON"):
        labelled.read(str(file))
