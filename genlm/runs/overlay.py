"""OVERLAY: the same measured thing of several runs in one chart, as SVG.

Before: axes and plots, whose manner and colours these charts share. After: compare. A
run has a number, a colour and a place in every list; its number stands where its curve
ends.
"""

import io
from typing import Sequence

import numpy as np

from genlm.runs import plots

_GAP = 9.0  # between two numbers, in points
_ROOM = 0.06  # above the highest value that is shown


def draw(curves: Sequence[np.ndarray], salt: str) -> str:
    """A chart of a curve [n, 2] each run, empty where it has none; losses fall, so it
    is framed by what they are after each one's first steps."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}):
        figure = Figure(figsize=(5.2, 3.0))
        axes = figure.add_axes((0.1, 0.1, 0.86, 0.87))
        for name, curve in zip(plots.RUNS, curves):
            if len(curve):
                _curve(axes, curve, plots.COLOURS[name])
        axes.set_ylim(None, highest(curves))
        plots.style(axes)
        _number_ends(axes, curves)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return plots.inline(text.getvalue())


def highest(curves: Sequence[np.ndarray]) -> float:
    """Where the frame ends."""
    later = [c[c[:, 0] > plots.FIRST * c[-1, 0], 1] for c in curves if len(c)]
    values = np.concatenate(later)
    return float(values.max() + _ROOM * (np.ptp(values) or 1.0))


def _curve(axes, curve: np.ndarray, colour: str) -> None:
    """Points [n, 2]; many of them as means of neighbours."""
    marker = "o" if len(curve) <= plots.MARKED else None
    if len(curve) > plots.GROUPS:
        groups = np.array_split(curve, plots.GROUPS)
        curve = np.asarray([group.mean(0) for group in groups])
    axes.plot(*curve.T, color=colour, linewidth=1.4, marker=marker, markersize=2.5)


def _number_ends(axes, curves: Sequence[np.ndarray]) -> None:
    """Each run's number after its last point, moved up or down to be readable."""
    ends = [(curve[-1], number) for number, curve in enumerate(curves, 1) if len(curve)]
    to_points = 72 / axes.figure.dpi
    places = axes.transData.transform([end for end, _ in ends])[:, 1] * to_points
    lowest = -np.inf
    for index in np.argsort(places, kind="stable"):
        (x, y), number = ends[index]
        lowest = max(places[index], lowest + _GAP)
        axes.annotate(
            str(number),
            (x, y),
            (5, lowest - places[index]),
            textcoords="offset points",
            color=plots.COLOURS[plots.RUNS[number - 1]],
            fontsize=8,
            fontweight="bold",
            verticalalignment="center",
            annotation_clip=False,
        )
