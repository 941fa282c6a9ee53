"""PLOTS: rows of metrics -> charts, as SVG to stand inside a page.

Before: metrics. After: report. A chart's colours are the page's CSS variables, so that
it is readable by day and by night, and its letters stay letters in the page's font.
"""

import dataclasses
import io
import math
import re
from typing import Any, Callable, Mapping, Sequence

import numpy as np

Rows = Sequence[Mapping[str, Any]]

CURVES = {
    "bits_per_byte": "Bits a byte",
    "loss": "Loss, nats a token",
    "gradient_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}
SPEED = {"tokens_per_second": "Tokens a second", "memory_mb": "Memory in use, MiB"}
_NO_CURVE = ("step", "tokens", "seconds", "trained_share")
_VALID = "valid_"  # what a held-out value's name begins with
_FROM_ZERO = ("learning_rate", *SPEED)
_LOG = ("gradient_norm",)
_FALLING = ("bits_per_byte", "loss")  # framed by what they are after the first steps
_FIRST = 0.05  # of all steps
_GROUPS = 240  # a longer curve is drawn as so many means, in a band of extremes
MARKED = 30  # points of a shorter one are marked
RUNS = tuple(f"run{number}" for number in range(1, 9))  # of several on a page
COLOURS = {  # stand-ins that matplotlib takes
    name: f"#1000{number:02}"
    for number, name in enumerate(("train", "valid", "level", "ink", "grid", *RUNS))
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """One measured thing against the steps, and where it stands."""

    title: str
    svg: str
    train: float | None  # its last values
    valid: float | None
    level: float | None
    is_cut: bool
    is_grouped: bool


def charts(rows: Rows, titles: Mapping[str, str], level: float | None) -> list[Chart]:
    """A chart each of the named values that `rows` have; `level` is a line of that
    height in the chart of bits a byte."""
    drawn = []
    for name, title in titles.items():
        train, valid = points(rows, name), points(rows, _VALID + name)
        if len(train) or len(valid):
            height = level if name == "bits_per_byte" else None
            drawn.append(_chart(name, title, train, valid, height))
    return drawn


def other_titles(rows: Rows) -> dict[str, str]:
    """{name: title} of the values in `rows` that this file knows nothing of."""
    names = [name.removeprefix(_VALID) for row in rows for name in row]
    known = {*CURVES, *SPEED, *_NO_CURVE}
    return {n: n.replace("_", " ").capitalize() for n in names if n not in known}


def points(rows: Rows, name: str) -> np.ndarray:
    """[n, 2] float64: step and value wherever `rows` have a finite one."""
    pairs = [
        (row["step"], row[name])
        for row in rows
        if isinstance(row.get(name), (int, float)) and math.isfinite(row[name])
    ]
    return np.asarray(pairs, np.float64).reshape(-1, 2)


def short(value: float, digits: int = 3) -> str:
    """A number in few letters: 1807508 is 1.81M."""
    scales = {"E": 1e18, "P": 1e15, "T": 1e12, "B": 1e9, "M": 1e6, "k": 1e3}
    for letter, scale in scales.items():
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def _chart(
    name: str, title: str, train: np.ndarray, valid: np.ndarray, level: float | None
) -> Chart:
    both = np.concatenate([train, valid])
    bottom, top = _limits(name, both, level)
    is_log = name in _LOG and both[:, 1].min() > 0
    return Chart(
        title,
        _draw(name, train, valid, level, bottom, top, is_log),
        train=float(train[-1, 1]) if len(train) else None,
        valid=float(valid[-1, 1]) if len(valid) else None,
        level=level,
        is_cut=top is not None and both[:, 1].max() > top,
        is_grouped=max(len(train), len(valid)) > _GROUPS,
    )


def _limits(
    name: str, values: np.ndarray, level: float | None
) -> tuple[float | None, float | None]:
    """Where the frame begins and ends; None: where the points [n, 2] do."""
    largest = values[:, 1].max()
    if name in _FROM_ZERO and largest > 0:
        return 0.0, 1.08 * largest
    if name in _FALLING and len(values) > MARKED:
        later = values[values[:, 0] > _FIRST * values[:, 0].max()][:, 1]
        seen = later if level is None else np.append(later, level)
        room = 0.06 * np.ptp(seen)
        return None, float(seen.max() + room)
    return None, None


def _draw(
    name: str,
    train: np.ndarray,
    valid: np.ndarray,
    level: float | None,
    bottom: float | None,
    top: float | None,
    is_log: bool,
) -> str:
    def draw(axes: Any) -> None:
        if level is not None:
            axes.axhline(level, color=COLOURS["level"], linestyle="--", linewidth=1.2)
        _curve(axes, train, "train")
        _curve(axes, valid, "valid")
        axes.set_yscale("log" if is_log else "linear")
        axes.set_ylim(bottom, top)
        style(axes)

    return svg(name, draw)


def svg(
    salt: str,
    draw: Callable[[Any], None],
    size: tuple[float, float] = (4.4, 2.3),
    frame: tuple[float, float, float, float] = (0.14, 0.13, 0.85, 0.83),
) -> str:
    """What `draw` puts on the axes, to stand inside a page; `salt` names its parts."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}):
        figure = Figure(figsize=size)
        draw(figure.add_axes(frame))
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue())


def _curve(axes: Any, curve: np.ndarray, colour: str) -> None:
    """Draw points [n, 2]; many of them as means of groups, and a band around."""
    ink = COLOURS[colour]
    marker = "o" if len(curve) <= MARKED else None
    if len(curve) > _GROUPS:
        groups = np.array_split(curve, _GROUPS)
        lowest, highest = ([f(g[:, 1]) for g in groups] for f in (np.min, np.max))
        curve = np.asarray([g.mean(0) for g in groups])
        axes.fill_between(
            curve[:, 0], lowest, highest, color=ink, alpha=0.22, linewidth=0
        )
    axes.plot(*curve.T, color=ink, linewidth=1.4, marker=marker, markersize=3)


def style(axes: Any) -> None:
    """Quiet axes: horizontal lines, round numbers, no frame."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(COLOURS["grid"])
    axes.grid(axis="y", color=COLOURS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelcolor=COLOURS["ink"])
    axes.margins(x=0.02)
    if np.ptp(axes.dataLim.intervalx) == 0:
        axes.set_xlim(axes.dataLim.x0 - 1, axes.dataLim.x0 + 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, 4)))


def _inline(svg: str) -> str:
    """What matplotlib wrote, as part of a page: the page's colours and width, and no
    names but those that the drawing itself refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1)
    for unwanted in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r"<!--.*?-->",
        r'(?<=<g) id="[^"]*"',
        r"font-family:[^;]*; ",
    ):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
