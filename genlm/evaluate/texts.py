"""TEXTS: bits a byte of any text.

Before: the rows of a task: documents of JSON lines, or one plain text. After: metrics.
Each document is read by itself. A long one gives several records, of so many bytes
each whatever the tokenizer, so that two models can be compared block by block.
"""

from typing import Any, Sequence

import numpy as np

from genlm.evaluate import likelihood, spans
from genlm.evaluate.likelihood import Candidate, Scored
from genlm.evaluate.spans import Span
from genlm.evaluate.tasks import Row, Task
from genlm.tokenizer.base import Tokenizer

BLOCK = 1024  # bytes


def solved(task: Task, row: Row) -> str:
    """The text of a row."""
    return row.text(task.text or "text")


def measure(
    candidate: Candidate, task: Task, rows: Sequence[Row], before: str
) -> list[dict[str, Any]]:
    """Of each block of each row's bytes: nats and bytes."""
    del before
    texts = [solved(task, row) for row in rows]
    asked = [spans.of_text(candidate.tokenizer, text) for text in texts]
    found = likelihood.score(candidate, asked, task.name)
    return [
        row.record(block)
        for row, text, span, scored in zip(rows, texts, asked, found)
        for block in _blocks(candidate.tokenizer, len(text.encode()), span, scored)
    ]


def _blocks(
    tokenizer: Tokenizer, size: int, span: Span, scored: Scored
) -> list[dict[str, Any]]:
    """Nats of each block, a token counted where it begins."""
    lengths = np.asarray([len(tokenizer.decode([i])) for i in span.ids[span.first :]])
    begins = np.minimum(np.cumsum(lengths) - lengths, max(size - 1, 0))
    starts = np.arange(0, max(size, 1), BLOCK)
    nats = np.bincount(begins // BLOCK, -scored.logprobs, len(starts)).tolist()
    return [
        {"block": block, "nats": nats[block], "bytes": min(BLOCK, size - start)}
        for block, start in enumerate(starts.tolist())
    ]
