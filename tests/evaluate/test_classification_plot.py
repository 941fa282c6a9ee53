"""The picture of a classifier: whole, and the same each time."""

from xml.etree import ElementTree

import numpy as np
import pytest

from genlm.evaluate import classification_plot


@pytest.mark.parametrize(
    "names",
    [
        ["ham", "spam"],
        ["$", "<b>&\0\n", "a very long name of a class of things"],
        [f"class {number}" for number in range(45)],
    ],
)
def test_it_is_a_file_that_holds_its_classes(tmp_path, names: list[str]):
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(len(names)), 200)
    labels = random.integers(len(names), size=200)
    written = [
        classification_plot.write(tmp_path / name, p, labels, names)
        for name in ("a.svg", "b.svg")
    ]
    assert written == [["a.svg"], ["b.svg"]]
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    drawn = "".join(ElementTree.parse(tmp_path / "a.svg").getroot().itertext())
    assert "Guessed class" in drawn and "Calibration error" in drawn
    if len(names) == 2:
        right = np.sum((labels == 1) & (p.argmax(1) == 1))
        assert "spam" in drawn and str(right) in drawn
    if len(names) == 3:
        assert "<b>&" in drawn
        assert "a very long name \u2026" in drawn and "of a class of" not in drawn
