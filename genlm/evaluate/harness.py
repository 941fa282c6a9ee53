"""THE HARNESS: a model and a task -> records, a row each, and what they come to.

Before: tasks, and a model opened. After: results.json and rows.jsonl of whoever asked.
"""

import dataclasses
import time
from typing import Any, Sequence

import numpy as np

from genlm.evaluate import (
    calibration,
    checked,
    choices,
    conversations,
    generations,
    last_words,
    metrics,
    texts,
)
from genlm.evaluate.likelihood import Candidate
from genlm.evaluate.statistics import Estimate
from genlm.evaluate.tasks import Row, Task

_KINDS: dict[str, Any] = {  # modules with solved() and measure()
    "choices": choices,
    "minimal_pairs": choices,
    "last_word": last_words,
    "generation": generations,
    "conversation": conversations,
    "checked": checked,
    "text": texts,
}


@dataclasses.dataclass(frozen=True)
class Question:
    """A task with its rows, read; each is measured after the solved ones.

    Raises:
      UserError: a row is not as the task's description says (names its line).
    """

    task: Task
    rows: Sequence[Row]
    solved: Sequence[Row] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            _KINDS[self.task.kind].solved(self.task, row)
            if self.task.group:
                row.text(self.task.group)

    def texts(self) -> list[str]:
        """What a model would have read of each row, had it stood in its training text:
        the question alone, where it has several answers or one to be written."""
        return [self._text(row) for row in self.rows]

    def _text(self, row: Row) -> str:
        fields = self.task.fields_of_context
        is_written = self.task.kind in ("generation", "checked")
        is_asked = is_written or self.task.choices
        if is_asked and fields:
            return " ".join(row.text(name) for name in fields)
        return _KINDS[self.task.kind].solved(self.task, row)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a model did on a task."""

    task: Task
    records: list[dict[str, Any]]
    metrics: dict[str, Estimate]  # the main one first
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For results.json: all but the records."""
        content: dict[str, Any] = {
            "kind": self.task.kind,
            "n": len(self.records),
            "metrics": {name: _as_json(name, e) for name, e in self.metrics.items()},
            "seconds": round(self.seconds, 2),
        }
        if "confidence" in self.records[0]:
            columns = (
                np.asarray([record[name] for record in self.records])
                for name in ("confidence", "accuracy")
            )
            bins = calibration.reliability(*columns)
            content["reliability"] = [each._asdict() for each in bins]
        if self.task.group:
            content["groups"] = self._by_group()
        return content

    def _by_group(self) -> dict[str, float]:
        """The main metric of each group of rows."""
        main = metrics.METRICS[next(iter(self.metrics))]
        groups: dict[str, list[dict[str, Any]]] = {}
        for record in self.records:
            groups.setdefault(record["group"], []).append(record)
        return {
            name: main.statistic(*metrics.columns(main, records))
            for name, records in sorted(groups.items())
        }


def measure(candidate: Candidate, question: Question) -> Result:
    """What the model does on a task, with progress shown."""
    begun = time.monotonic()
    task = question.task
    kind = _KINDS[task.kind]
    before = "".join(f"{kind.solved(task, row)}\n\n" for row in question.solved)
    records = kind.measure(candidate, task, question.rows, before)
    if task.group:
        groups = {(r.path, r.number): r.text(task.group) for r in question.rows}
        for record in records:
            record["group"] = groups[record["file"], record["row"]]
    found = metrics.of(records)
    return Result(task, records, found, time.monotonic() - begun)


def _as_json(name: str, estimate: Estimate) -> dict[str, Any]:
    better = "higher" if metrics.METRICS[name].is_higher_better else "lower"
    value, low, high, _ = estimate
    return {"value": value, "low": low, "high": high, "better": better}
