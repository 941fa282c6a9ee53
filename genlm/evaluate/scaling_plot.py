"""A SCALING LAW DRAWN: losses of a ladder of runs, the law through them, and the run
that it foretells, as an SVG file that stands alone."""

from pathlib import Path
from typing import Any

import numpy as np

from genlm.evaluate import drawing
from genlm.evaluate.scaling import Law
from genlm.runs.plots import short

_TOLD, _MEASURED = "#d9570f", "#1f2328"


def write(path: Path, results: dict[str, Any], measured: float | None = None) -> list:
    """Draw what the stage `fit` found, and the foretold run's loss once it is known.

    Returns the names of the files written: none where matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        _ladder(axes, results)
        _foretold(axes, results, measured)
        _style(axes)

    return drawing.write(path, (6.4, 3.8), draw)


def _ladder(axes: Any, results: dict[str, Any]) -> None:
    """A colour a size: dots as measured, the law as a line."""
    from matplotlib import colormaps

    law, runs = Law(**results["law"]), results["runs"]
    sizes = sorted({run["parameters"] for run in runs})
    ends = _ends(results)
    for i, size in enumerate(sizes):
        colour = colormaps["Blues"](0.4 + 0.55 * i / max(len(sizes) - 1, 1))
        own = [run for run in runs if run["parameters"] == size]
        axes.plot(ends, law(size, ends), color=colour, linewidth=1.2)
        axes.plot(
            [run["tokens"] for run in own],
            [run["loss"] for run in own],
            "o",
            color=colour,
            markersize=4.5,
            label=f"{short(size)} parameters",
        )


def _foretold(axes: Any, results: dict[str, Any], measured: float | None) -> None:
    law, told = Law(**results["law"]), results["prediction"]
    size, tokens, loss = told["parameters"], told["tokens"], told["loss"]
    low, high = told["interval"]
    ends = _ends(results)
    axes.plot(ends, law(size, ends), color=_TOLD, linewidth=1.2, linestyle="--")
    axes.errorbar(
        [tokens],
        [loss],
        yerr=[[max(loss - low, 0)], [max(high - loss, 0)]],
        fmt="D",
        color=_TOLD,
        markersize=4.5,
        capsize=4,
        label=f"{short(size)} foretold: {loss:.3f}",
    )
    if measured is not None:
        label = f"measured: {measured:.3f} ({100 * (loss / measured - 1):+.2f} %)"
        axes.plot([tokens], [measured], "x", color=_MEASURED, markersize=8, label=label)


def _ends(results: dict[str, Any]) -> np.ndarray:
    """Tokens from the fewest to the most, where lines are drawn."""
    tokens = [run["tokens"] for run in results["runs"]]
    most = max(*tokens, results["prediction"]["tokens"])
    return np.geomspace(min(tokens), most, 60)


def _style(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("Trained tokens")
    axes.set_ylabel("Held-out loss, nats a token")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e1db", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 2.5, 3, 4, 5, 7)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8)
