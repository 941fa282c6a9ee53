"""COMPARE: several runs -> one HTML page: what each reached, and at what cost.

Before: contents, axes and overlay. After: a reader with a browser. The last stage of a
run directory that has metrics is the one that is compared.
"""

import dataclasses
from pathlib import Path
import statistics
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from genlm.errors import UserError
from genlm.runs import axes, contents, directory, lineage, overlay
from genlm.runs import page as pages
from genlm.runs import plots
from genlm.runs.contents import Count, Stage

CURVES = {
    "valid_bits_per_byte": "Held-out bits a byte",
    "bits_per_byte": "Training bits a byte",
    "valid_loss": "Held-out loss, nats a token",
    "loss": "Training loss, nats a token",
}
_NO_SETTINGS = (
    "stage",
    "data.prepared",
    "source",
    "train.watch",
)  # say where, not what
_SPLIT_BY = ("document", "clean", "dedup", "valid_fraction")  # of data
_UNITS = ((2 * 3600, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))
_NONE = "–"


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained stage, what it was made from, and its curves' axes."""

    name: str
    stage: Stage
    data: Stage | None
    parameters: int
    axes: Mapping[str, np.ndarray]  # see runs.axes

    def points(self, name: str) -> np.ndarray:
        return plots.points(self.stage.metrics, name)

    def last(self, axis: str) -> float | None:
        """How far it is on an axis."""
        return float(self.axes[axis][-1, 1]) if axis in self.axes else None

    def curve(self, name: str, axis: str) -> np.ndarray:
        """Points [n, 2] of a measured value along an axis; [0, 2] if not known."""
        if axis not in self.axes:
            return np.zeros((0, 2))
        return axes.along(self.points(name), self.axes[axis])


class Row(NamedTuple):
    """A line of the table: what of each run, and which of them are the lowest."""

    title: str
    cells: list[str]
    best: tuple[int, ...] = ()


class Group(NamedTuple):
    """Charts of every measured thing against one axis."""

    axis: str
    title: str
    charts: list[tuple[str, str]]  # title, svg
    absent: list[str]  # runs whose place on the axis is not known


def write(folders: Sequence[Path], out: Path, parameters: Count, flops: Count) -> None:
    """Write the page of the runs in `folders` to `out`."""
    directory.write_atomic(out, page(folders, parameters, flops))


def page(folders: Sequence[Path], parameters: Count, flops: Count) -> str:
    """The HTML of the runs in `folders`, two to eight.

    Args:
      parameters, flops: those of a model, and its operations a trained token.

    Raises:
      UserError: a folder has no run with metrics, or there are too few or too many.
    """
    if not 2 <= len(folders) <= len(plots.RUNS):
        raise UserError(
            f"a comparison is of 2 to {len(plots.RUNS)} runs, not {len(folders)}"
        )
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = [_read(f, n, parameters, flops) for f, n in zip(folders, names)]
    pages.require()
    same_tokens, same_text = _held_out(runs)
    return pages.render(
        "compare.html",
        runs=runs,
        facts=_facts(runs, same_tokens, same_text),
        settings=_settings(runs),
        warning=_warning(runs, same_tokens, same_text),
        groups=[_group(runs, axis) for axis in axes.AXES],
        is_grouped=any(len(r.points(n)) > overlay.GROUPS for r in runs for n in CURVES),
    )


def _read(folder: Path, name: str, parameters: Count, flops: Count) -> Run:
    stages = contents.read(folder)
    trained = [s for s in stages if s.metrics and s.model]
    if not trained:
        raise UserError(
            f"{folder} has no metrics to compare: nothing was trained there"
        )
    stage = trained[-1]
    data = [s for s in stages if s.summary and stage.is_made_from(s)]
    return Run(
        name,
        stage,
        data[-1] if data else None,
        stage.of_model(parameters),
        axes.of(stage.metrics, stage.of_model(flops)),
    )


def _facts(runs: list[Run], same_tokens: bool, same_text: bool) -> list[Row]:
    """What each run reached and cost, as far as it is known."""
    rows = [
        Row("status", [run.stage.status for run in runs]),
        Row("parameters", [plots.short(run.parameters) for run in runs]),
        Row("steps", [f"{run.stage.step:,}" for run in runs]),
        Row("tokens trained on", [_short(run.last("tokens")) for run in runs]),
        Row("FLOPs", [_short(run.last("flops")) for run in runs]),
        Row("time", [pages.clock(run.last("time") or 0.0) for run in runs]),
        Row("tokens a second, median", [_short(_speed(run)) for run in runs]),
    ]
    for name, title, is_fair in (
        ("valid_bits_per_byte", "held-out bits a byte", same_text),
        ("valid_loss", "held-out nats a token", same_tokens),
    ):
        curves = [run.points(name) for run in runs]
        if any(map(len, curves)):
            best = [c[c[:, 1].argmin()] if len(c) else None for c in curves]
            last = [c[-1] if len(c) else None for c in curves]
            rows.append(_scores(f"{title}, last", last, is_fair))
            rows.append(_scores(f"{title}, best", best, is_fair))
            steps = [_NONE if p is None else f"{p[0]:,.0f}" for p in best]
            rows.append(Row("... at step", steps))
    return rows


def _scores(title: str, points: list[np.ndarray | None], is_fair: bool) -> Row:
    """A row of points [2]; the lowest is marked where comparing them is fair."""
    lowest = min(point[1] for point in points if point is not None)
    return Row(
        title,
        [_NONE if point is None else f"{point[1]:.4f}" for point in points],
        tuple(
            n
            for n, p in enumerate(points)
            if is_fair and p is not None and p[1] == lowest
        ),
    )


def _speed(run: Run) -> float | None:
    rates = run.points("tokens_per_second")[:, 1]
    return statistics.median(map(float, rates)) if len(rates) else None


def _short(value: float | None) -> str:
    return _NONE if value is None else plots.short(value)


def _settings(runs: list[Run]) -> list[Row]:
    """The settings, and the code, that are not the same in all runs."""
    flats = [
        _flat(r.data.config if r.data else {}) | _flat(r.stage.config) for r in runs
    ]
    for run, flat in zip(runs, flats):
        if run.stage.lineage:
            flat["code"] = run.stage.lineage["code"]
    keys = sorted(set().union(*flats) - set(_NO_SETTINGS))
    rows = [Row(k, [str(f[k]) if k in f else _NONE for f in flats]) for k in keys]
    return [row for row in rows if len(set(row.cells)) > 1]


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted name: value} of a config."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def _held_out(runs: list[Run]) -> tuple[bool, bool]:
    """Whether all runs were measured on the same held-out tokens, and text."""
    sources = [sorted(sha256 for _, sha256 in run.stage.inputs) for run in runs]
    if all(source and source == sources[0] for source in sources):
        return True, True
    if any(run.data is None for run in runs):
        return False, False
    tokens, texts = zip(*(_splits(run.data) for run in runs if run.data))
    return len(set(tokens)) == 1, len(set(texts)) == 1


def _splits(data: Stage) -> tuple[str, str]:
    """Hashes that tell one held-out split from another: of its tokens, and of what its
    text depends on."""
    tokens = {
        name: sha256
        for name, sha256 in data.lineage["outputs"].items()
        if Path(name).match("valid/tokens-*") or "tokenizer" in Path(name).parts
    }
    how = {k: v for k, v in data.config["data"].items() if k in _SPLIT_BY}
    size = [data.summary["valid"][name] for name in ("documents", "bytes")]
    text = [sorted(sha256 for _, sha256 in data.inputs), how, size]
    return lineage.digest(tokens), lineage.digest(text)


def _warning(runs: list[Run], same_tokens: bool, same_text: bool) -> str:
    """What must not be compared; '' if all may be."""
    if same_tokens:
        return ""
    if same_text:
        return (
            "These runs cut the same held-out text into other tokens: compare bits a"
            " byte, and not nats a token."
        )
    lost = [run.name for run in runs if run.data is None]
    if lost:
        return (
            "Whether these runs were measured on the same held-out text is not known:"
            f" the data of {', '.join(lost)} is not where it was, or has changed."
            " Held-out figures may not be comparable."
        )
    return (
        "These runs were measured on different held-out texts: their held-out figures"
        " cannot be compared."
    )


def _group(runs: list[Run], axis: str) -> Group:
    """The charts against an axis; time in the unit that suits the longest run."""
    title, scale = axes.AXES[axis], 1.0
    if axis == "time":
        longest = max(run.last(axis) or 0.0 for run in runs)
        scale, unit = next((s, u) for least, s, u in _UNITS if longest >= least)
        title = f"{title}, {unit}"
    charts = []
    for name, words in CURVES.items():
        curves = [run.curve(name, axis) / (scale, 1.0) for run in runs]
        if any(map(len, curves)):
            charts.append((words, overlay.draw(curves, f"{name} {axis}")))
    absent = [run.name for run in runs if axis not in run.axes]
    return Group(axis, title, charts, absent)
