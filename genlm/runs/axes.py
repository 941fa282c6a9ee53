"""AXES: what a curve may be drawn against: steps, tokens, operations, time.

Before: rows of metrics. After: plots of several runs. Each is known where a row of
training was written; between two of them it grows in a line.
"""

from typing import Any, Mapping, Sequence

import numpy as np

Rows = Sequence[Mapping[str, Any]]

AXES = {"steps": "Steps", "tokens": "Tokens", "flops": "FLOPs", "time": "Time"}


def of(rows: Rows, flops_per_token: int) -> dict[str, np.ndarray]:
    """{axis: [n, 2] float64, step and how much by then}, of those that are known."""
    trained = [row for row in rows if "seconds" in row]
    counted = [row for row in trained if "tokens" in row]
    last = max((row["step"] for row in rows), default=0)
    tokens = _from_zero(counted, [row["tokens"] for row in counted])
    found = {
        "steps": np.asarray([(0, 0), (last, last)], np.float64),
        "time": _from_zero(trained, elapsed(rows)),
    }
    if counted:
        found |= {"tokens": tokens, "flops": tokens * (1, flops_per_token)}
    return found


def _from_zero(rows: Rows, amounts: Sequence[float]) -> np.ndarray:
    """[n, 2]: the steps of rows and an amount each, after (0, 0)."""
    steps = [row["step"] for row in rows]
    return np.asarray([(0, 0), *zip(steps, amounts)], np.float64)


def elapsed(rows: Rows) -> list[float]:
    """Seconds of training by each row that has a time; each time that a run goes on,
    its clock begins anew."""
    total = last = 0.0
    times = []
    for seconds in (row["seconds"] for row in rows if "seconds" in row):
        total += last if seconds < last else 0.0
        last = seconds
        times.append(total + last)
    return times


def along(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Points [n, 2] of steps and values, with their steps put on an axis of `of`;
    without those of later steps than the axis knows."""
    points = points[points[:, 0] <= axis[-1, 0]]
    return np.stack([np.interp(points[:, 0], *axis.T), points[:, 1]], axis=1)
