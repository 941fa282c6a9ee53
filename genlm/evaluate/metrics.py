"""METRICS: the records of a task -> figures that say how sure they are.

Before: choices, last words, generations, texts, a record a row. After: harness, and
whoever compares two runs by their records. A metric is there where its columns are.
"""

import math
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np

from genlm.evaluate import calibration, statistics
from genlm.evaluate.statistics import Estimate

Record = Mapping[str, Any]


class Metric(NamedTuple):
    """A statistic of some columns of the records; higher is better, or lower."""

    columns: tuple[str, ...]
    statistic: Callable[..., float]
    is_higher_better: bool = True


def _perplexity(logprobs: np.ndarray) -> float:
    return math.exp(min(-float(np.mean(logprobs)), 700.0))


def _bits_per_byte(nats: np.ndarray, num_bytes: np.ndarray) -> float:
    return float(nats.sum() / math.log(2) / max(num_bytes.sum(), 1))


def _ratio(counted: np.ndarray, of: np.ndarray) -> float:
    """The share of what there is; NaN where there is nothing."""
    return float(counted.sum() / of.sum()) if of.sum() else math.nan


def _refused_where_due(refused: np.ndarray, due: np.ndarray) -> float:
    return _ratio(refused * due, due)


def _over_refused(refused: np.ndarray, due: np.ndarray) -> float:
    return _ratio(refused * (1 - due), 1 - due)


_REFUSED = ("refused", "should_refuse")
METRICS = {  # a task's main one first
    "accuracy": Metric(("accuracy",), statistics.mean),
    "accuracy_normalised": Metric(("accuracy_normalised",), statistics.mean),
    "calibration_error": Metric(("confidence", "accuracy"), calibration.error, False),
    "perplexity": Metric(("logprob",), _perplexity, False),
    "score": Metric(("score",), statistics.mean),
    "score_loose": Metric(("score_loose",), statistics.mean),
    "instructions_followed": Metric(("followed", "instructions"), _ratio),
    "instructions_followed_loose": Metric(("followed_loose", "instructions"), _ratio),
    "refused_where_due": Metric(_REFUSED, _refused_where_due),
    "over_refused": Metric(_REFUSED, _over_refused, False),
    "stopped": Metric(("stopped",), statistics.mean),
    "bits_per_byte": Metric(("nats", "bytes"), _bits_per_byte, False),
}


def of(records: Sequence[Record]) -> dict[str, Estimate]:
    """Every metric that the records have the columns of, and anything to count in, with
    its interval."""
    return {
        name: statistics.estimate(*found, statistic=metric.statistic)
        for name, metric in METRICS.items()
        if all(column in records[0] for column in metric.columns)
        and not math.isnan(metric.statistic(*(found := columns(metric, records))))
    }


def difference(
    name: str, ours: Sequence[Record], theirs: Sequence[Record]
) -> Estimate | None:
    """A metric of ours less that of theirs, over the rows that both have, drawn
    together; None where they have none in common."""
    metric = METRICS[name]
    there = {_place(record): record for record in theirs}
    pairs = [(r, there[_place(r)]) for r in ours if _place(r) in there]
    if not pairs:
        return None
    sides = [columns(metric, side) for side in zip(*pairs)]
    k = len(metric.columns)
    return statistics.estimate(
        *sides[0],
        *sides[1],
        statistic=lambda *c: metric.statistic(*c[:k]) - metric.statistic(*c[k:]),
    )


def _place(record: Record) -> tuple[Any, ...]:
    """Which row of its task a record is of, and which part of it."""
    block = record["block"] if "block" in record else 0
    return record["file"], record["row"], block


def columns(metric: Metric, records: Sequence[Record]) -> list[np.ndarray]:
    """[records] each of what a metric is made of."""
    return [np.asarray([r[c] for r in records], float) for c in metric.columns]
