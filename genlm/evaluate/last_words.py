"""LAST WORDS: whether the likeliest tokens after a passage are its last word's, and how
likely that word is (https://arxiv.org/abs/1606.06031).

Before: the rows of a task. After: metrics.
"""

from typing import Any, Sequence

from genlm.evaluate import likelihood, spans
from genlm.evaluate.likelihood import Candidate
from genlm.evaluate.tasks import Row, Task


def _pair(task: Task, row: Row) -> tuple[str, str]:
    return row.fill(task.context), task.between + row.fill(task.continuation)


def solved(task: Task, row: Row) -> str:
    """The row with its right answer, as an example."""
    return "".join(_pair(task, row))


def measure(
    candidate: Candidate, task: Task, rows: Sequence[Row], before: str
) -> list[dict[str, Any]]:
    """Of each row: the last word's log-probability, and whether greedy decoding would
    write it.

    Args:
      before: examples, ahead of each context.
    """
    pairs = [_pair(task, row) for row in rows]
    asked = [
        spans.of_pair(candidate.tokenizer, before + context, word)
        for context, word in pairs
    ]
    found = likelihood.score(candidate, asked, task.name)
    return [
        row.record({"logprob": e.total, "accuracy": float(e.is_likeliest.all())})
        for row, e in zip(rows, found)
    ]
