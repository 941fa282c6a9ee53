"""`genlm classify`: lines in, classes out, side by side."""

import json
from pathlib import Path

import pytest

from genlm import stages
from genlm.cli.__main__ import main
from genlm.interop.classifier import open_classifier
from tests.stages import made

pytestmark = pytest.mark.slow  # each trains a model


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classify_command")
    data = made.labelled(folder / "rows.jsonl", count=20)
    stages.run(made.classify("", data), folder / "told")
    return folder / "told"


TEXTS = ("An assert statement", "", "\u2028 one line", "x " * 300, "\t")


def test_a_line_of_text_a_line_of_class(told: Path, tmp_path: Path, capsys):
    file = tmp_path / "lines.txt"
    file.write_text("\ufeff" + "\r\n".join(TEXTS) + "\n", "utf-8", newline="")
    assert main(["classify", "--from", str(told), str(file)]) == 0
    plain = capsys.readouterr().out.split("\n")
    assert main(["classify", "--from", str(told), "--json", str(file)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [row["text"] for row in rows] == list(TEXTS)
    opened = open_classifier(told)
    for text, line, row in zip(TEXTS, plain, rows, strict=False):
        if not text.strip():
            assert line == "" and row["label"] is None
            continue
        (expected,) = opened.probabilities([text])
        label = opened.labels[expected.argmax()]
        assert row["label"] == label
        assert list(row["probabilities"]) == list(opened.labels)
        said, _, probability = line.partition("\t")
        assert said == label and float(probability) == pytest.approx(
            expected.max(), abs=1e-4
        )


def test_a_head_is_not_dropped_in_an_export(told: Path, tmp_path: Path, mistake_here):
    out = tmp_path / "out"
    said = mistake_here("export", "--from", told, "--out", out)
    assert "its head has no place in such a folder" in said and not out.exists()


def test_mistakes(told: Path, tmp_path: Path, mistake_here):
    file = tmp_path / "bad.txt"
    file.write_bytes(b"good\nb\xffd\n")
    said = mistake_here("classify", "--from", told, file)
    assert f"{file}:2: not UTF-8, bad byte at 1" in said
    said = mistake_here("classify", "--from", told, tmp_path / "none.txt")
    assert "none.txt: No such file" in said
    said = mistake_here("classify", "--from", tmp_path, file)
    assert "holds no model" in said
    (told / "trained.json").rename(told / "trained.kept")
    try:
        said = mistake_here("classify", "--from", told, file)
    finally:
        (told / "trained.kept").rename(told / "trained.json")
    assert "is no classifier: its model has no head" in said
