"""SIDE BY SIDE: the results of several runs -> lines that say which is better, and
where nobody can tell.

Before: results and records of each. After: the verb eval. Two runs are compared row by
row, and runs that differ by their seed alone are one recipe, with a spread.
"""

from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from genlm.evaluate import metrics
from genlm.evaluate.statistics import Estimate, is_clear

Content = dict[str, Any]
NOT_DISTINGUISHABLE = "not distinguishable"


class Side(NamedTuple):
    """A run: what results.json says of its tasks, and the rows of rows.jsonl."""

    name: str
    tasks: dict[str, Content]
    rows: list[Content]

    def rows_of(self, task: str) -> list[Content]:
        return [row for row in self.rows if row["task"] == task]


def lines(sides: Sequence[Side], recipes: Sequence[Sequence[int]]) -> Iterator[str]:
    """What stands in a terminal: each task, each metric, each run.

    Args:
      recipes: places in `sides` of runs that differ by their seed alone.
    """
    width = max(len(side.name) for side in sides)
    for task, content in sides[0].tasks.items():
        yield f"{task}: {content['n']:,} rows, {content['seconds']:.1f} s"
        for side in sides:
            name = f"{side.name}: " if len(sides) > 1 else ""
            yield f"  {name}{contaminated(side.tasks[task]['contamination'])}"
        for metric, found in content["metrics"].items():
            better = " (lower is better)" if found["better"] == "lower" else ""
            yield f"  {metric.replace('_', ' ')}{better}"
            for side in sides:
                value = f"{side.name:{width}}  {_value(side, task, metric)}"
                yield f"    {value}{_beside(side, sides[0], task, metric)}"
            for group in recipes:
                yield "    " + spread([sides[i] for i in group], task, metric)


def _value(side: Side, task: str, metric: str) -> str:
    found = side.tasks[task]["metrics"][metric]
    value, low, high = (_number(found[key]) for key in ("value", "low", "high"))
    return f"{value}  ({low} to {high})"


def _beside(side: Side, first: Side, task: str, metric: str) -> str:
    """How much better or worse it is than the first."""
    if side is first:
        return ""
    found = metrics.difference(metric, side.rows_of(task), first.rows_of(task))
    return f"  {told(found)}" if found else ""


def told(difference: Estimate) -> str:
    """A paired difference in words."""
    said = "" if is_clear(difference) else f", {NOT_DISTINGUISHABLE}"
    value, low, high = (_number(x, "+") for x in difference[:3])
    return f"{value} ({low} to {high}){said}"


def spread(sides: Sequence[Side], task: str, metric: str) -> str:
    """The mean and the standard deviation over the seeds of a recipe."""
    values = [side.tasks[task]["metrics"][metric]["value"] for side in sides]
    mean, low, high, deviation = map(
        _number, (np.mean(values), min(values), max(values), np.std(values, ddof=1))
    )
    return (
        f"{len(values)} seeds: mean {mean}, from {low} to {high}, standard deviation"
        f" {deviation}"
    )


def contaminated(found: Content | str) -> str:
    """In words, how many rows stand in the training text."""
    if isinstance(found, str):
        return f"seen in training: {found}"
    least = "" if found["is_whole"] else "at least "
    short = f"; {found['too_short']:,} too short to tell" if found["too_short"] else ""
    return (
        f"seen in training: {least}{found['seen']:,} of {found['rows']:,} rows"
        f" ({100 * found['share']:.1f} %){short}"
    )


def _number(value: float, sign: str = "") -> str:
    return format(value, f"{sign}.4f" if abs(value) < 1000 else f"{sign}.4g")
