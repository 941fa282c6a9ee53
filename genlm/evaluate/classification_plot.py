"""A CLASSIFIER DRAWN: which classes it takes for which, and whether its confidence is
borne out, as an SVG file that stands alone."""

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from genlm.evaluate import classification, drawing

_INK, _MARK = "#1f2328", "#d9570f"
_MOST_NUMBERS = 12  # classes; of more the cells are too small to be written in
_MOST_NAMES = 40
_LONGEST = 18  # characters of a class's name


def write(
    path: Path, probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[str]:
    """Draw probabilities [rows, classes] beside labels [rows].

    Returns the names of the files written: none where matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        guesses = probabilities.argmax(1)
        matrix = classification.confusion(labels, guesses, len(names))
        _confusion(left, matrix, [_short(name) for name in names])
        _reliability(right, probabilities, labels)

    return drawing.write(path, (8.0, 3.9), draw)


def _confusion(axes: Any, matrix: np.ndarray, names: list[str]) -> None:
    """Shade: the share of a class's rows; in figures their count."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(names)) if len(names) <= _MOST_NAMES else []
    is_slanted = max(map(len, names)) * len(names) > 36
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, names[: len(ticks)], **(slant if is_slanted else {}))
    axes.set_yticks(ticks, names[: len(ticks)])
    axes.tick_params(length=0)
    axes.set_xlabel("Guessed class")
    axes.set_ylabel("True class")
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(*matrix.shape) if len(names) <= _MOST_NUMBERS else ():
        axes.text(
            column,
            row,
            f"{matrix[row, column]:,}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else _INK,
        )


def _reliability(axes: Any, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Dots as large as the rows they stand for; on the line, confidence is right."""
    bins = classification.reliability(probabilities, labels)
    error = classification.calibration_error(probabilities, labels)
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle="--")
    axes.plot(bins.confidence, bins.accuracy, color=_MARK, linewidth=1.0)
    sizes = 12 + 140 * bins.rows / bins.rows.max()
    axes.scatter(bins.confidence, bins.accuracy, s=sizes, color=_MARK, alpha=0.75)
    axes.set_xlim(-0.02, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.set_aspect("equal")
    axes.set_xlabel("Probability of the guess")
    axes.set_ylabel("Share of right guesses")
    axes.set_title(f"Calibration error {error:.3f}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e1db", linewidth=0.7)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    """A class's name as it fits, and that matplotlib takes for no formula."""
    text = "".join(c for c in name if c.isprintable())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"
    return text.replace("$", r"\$")
