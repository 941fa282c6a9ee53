"""OVERLAY: the same measured thing of several runs in one chart, as SVG.

Before: axes and plots, whose manner and colours these charts share. After: compare. A
run has a number, a colour and a place in every list; its number stands where its curve
ends.
"""

import math
from typing import Any, Sequence

import numpy as np

from genlm.runs import plots

GROUPS = 80  # a longer curve is drawn as at most so many means
_FIRST = 0.1  # of a run
_GAP = 9.0  # between two numbers, in points
_ROUNDS = 100  # of giving way; eight numbers are settled by then
_ROOM = 0.06  # above the highest value that is shown


def draw(curves: Sequence[np.ndarray], salt: str) -> str:
    """A chart of a curve [n, 2] each run, empty where it has none; losses fall, so it
    is framed by what they are after each one's first steps."""

    def on(axes: Any) -> None:
        drawn = [_thinned(curve) for curve in curves]
        for name, curve in zip(plots.RUNS, drawn):
            (line,) = axes.plot(*curve.T, color=plots.COLOURS[name], linewidth=1.4)
            if len(curve) <= plots.MARKED:
                line.set(marker="o", markersize=2.5)
        axes.set_ylim(None, highest(curves))
        plots.style(axes)
        _number_ends(axes, drawn)

    return plots.svg(salt, on, (5.2, 3.0), (0.1, 0.1, 0.86, 0.87))


def highest(curves: Sequence[np.ndarray]) -> float:
    """Where the frame ends."""
    later = [c[c[:, 0] >= _FIRST * c[-1, 0], 1] for c in curves if len(c)]
    values = np.concatenate(later)
    return float(values.max() + _ROOM * (np.ptp(values) or 1.0))


def _thinned(curve: np.ndarray) -> np.ndarray:
    """Points [n, 2]; many of them as means of neighbours."""
    if len(curve) <= GROUPS:
        return curve
    width = math.ceil(len(curve) / GROUPS)  # all alike, or their noise would differ
    groups = np.split(curve, range(width, len(curve), width))
    return np.asarray([group.mean(0) for group in groups])


def _number_ends(axes: Any, curves: Sequence[np.ndarray]) -> None:
    """Each run's number after its last point, moved up or down to be readable."""
    runs = [index for index, curve in enumerate(curves) if len(curve)]
    ends = np.stack([curves[index][-1] for index in runs])
    places = axes.transData.transform(ends) * 72 / axes.figure.dpi
    for index, end, place, height in zip(runs, ends, places, spread(places)):
        axes.annotate(
            str(index + 1),
            end,
            (5, height - place[1]),
            textcoords="offset points",
            color=plots.COLOURS[plots.RUNS[index]],
            fontsize=8,
            fontweight="bold",
            verticalalignment="center",
            annotation_clip=False,
        )


def spread(places: np.ndarray) -> np.ndarray:
    """Heights [n] for numbers at places [n, 2]: where two would cover each other, both
    give way."""
    heights = places[:, 1].copy()
    order = np.argsort(heights, kind="stable")
    pairs = [(low, high) for n, low in enumerate(order) for high in order[n + 1 :]]
    near = [p for p in pairs if abs(np.subtract(*places[list(p), 0])) < _GAP]
    for _ in range(_ROUNDS):
        for low, high in near:
            lacking = max(0.0, _GAP - (heights[high] - heights[low]))
            heights[low] -= lacking / 2
            heights[high] += lacking / 2
    return heights
