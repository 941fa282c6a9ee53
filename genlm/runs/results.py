"""RESULTS: what the stages of a life do on tasks, side by side.

Before: contents. After: report. A metric's interval stands in results.json; how two
stages differ, row by row, is a function that the caller hands over.
"""

from typing import Any, Callable, NamedTuple, Sequence

from genlm.runs.contents import Stage

Rows = list[dict[str, Any]]
# of a metric and the rows of two stages: (value, low, high) of ours less theirs
Difference = Callable[[str, Rows, Rows], tuple[float, float, float] | None]


class Value(NamedTuple):
    """A metric of a stage: its interval, as percentages of the widest, and how far it
    is from the stage before."""

    stage: str
    value: str
    interval: str
    left: float
    width: float
    tick: float
    difference: str
    is_clear: bool


class Metric(NamedTuple):
    name: str
    values: list[Value]


class Gain(NamedTuple):
    """A text, and what runs make of it: of each its bits a byte with their interval,
    and the change against the first run, in percent, with its own."""

    text: str
    rows: list[tuple[str, str, str, str, str, bool]]


def gains(stages: Sequence[Stage]) -> list[Gain]:
    """What runs have learnt and forgotten, of every stage that measured it."""
    return [
        Gain(text, [_gain(row) for row in rows])
        for stage in stages
        for text, rows in stage.results.get("gain", {}).items()
    ]


def _gain(row: dict[str, Any]) -> tuple[str, str, str, str, str, bool]:
    bits, change = row["bits_per_byte"], row["change_percent"]
    is_clear = change["low"] > 0 or change["high"] < 0
    return (
        row["run"],
        f"{bits['value']:.4f}",
        f"{bits['low']:.4f} to {bits['high']:.4f}",
        f"{change['value']:+.2f} %",
        f"{change['low']:+.2f} to {change['high']:+.2f}",
        is_clear,
    )


class TaskTable(NamedTuple):
    """A task as the page shows it."""

    name: str
    n: int
    metrics: list[Metric]
    seen: list[tuple[str, str]]  # of each stage, how much of it stood in training
    reliability: list[tuple[str, list[dict[str, float]]]]


def tables(stages: Sequence[Stage], difference: Difference | None) -> list[TaskTable]:
    """Every task that a stage was measured on; without a `difference`, intervals
    alone."""
    names = dict.fromkeys(task for stage in stages for task in stage.tasks)
    return [_table(name, stages, difference) for name in names]


def _table(
    name: str, stages: Sequence[Stage], difference: Difference | None
) -> TaskTable:
    measured = [stage for stage in stages if name in stage.tasks]
    found = [stage.tasks[name] for stage in measured]
    return TaskTable(
        name,
        max(each["n"] for each in found),
        [_metric(name, metric, measured, difference) for metric in found[0]["metrics"]],
        [(s.measured, _seen(f["contamination"])) for s, f in zip(measured, found)],
        [
            (s.measured, f["reliability"])
            for s, f in zip(measured, found)
            if "reliability" in f
        ],
    )


def _metric(
    task: str, name: str, stages: Sequence[Stage], difference: Difference | None
) -> Metric:
    found = [stage.tasks[task]["metrics"][name] for stage in stages]
    most = max(1.0, *(each["high"] for each in found))
    values = []
    for i, (stage, each) in enumerate(zip(stages, found)):
        apart = None
        if i and difference:
            apart = difference(name, _rows(stage, task), _rows(stages[i - 1], task))
        left, tick = 100 * each["low"] / most, 100 * each["value"] / most
        values.append(
            Value(
                stage.measured,
                _number(each["value"]),
                f"{_number(each['low'])} to {_number(each['high'])}",
                round(left, 2),
                round(100 * each["high"] / most - left, 2),
                round(tick, 2),
                _told(apart),
                apart is not None and (apart[1] > 0 or apart[2] < 0),
            )
        )
    better = ", lower is better" if found[0]["better"] == "lower" else ""
    return Metric(name.replace("_", " ") + better, values)


def _rows(stage: Stage, task: str) -> Rows:
    return [row for row in stage.rows if row["task"] == task]


def _told(apart: tuple[float, float, float] | None) -> str:
    if apart is None:
        return ""
    value, low, high = apart
    if low <= 0 <= high:
        return f"{_number(value, '+')}, not distinguishable"
    return f"{_number(value, '+')} ({_number(low, '+')} to {_number(high, '+')})"


def _seen(found: dict[str, Any] | str) -> str:
    if isinstance(found, str):
        return found
    least = "" if found["is_whole"] else "at least "
    return f"{least}{100 * found['share']:.1f} % of {found['rows']:,} rows"


def _number(value: float, sign: str = "") -> str:
    return format(value, f"{sign}.3f" if abs(value) < 1000 else f"{sign}.4g")
