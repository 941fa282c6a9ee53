"""CHOICES: which of several continuations is the likeliest, or in which of several
contexts one is; of minimal pairs, which of two sentences.

Before: the rows of a task. After: metrics. The rules are lm-eval's: a choice's score is
the sum of its log-probabilities; normalised, that sum divided by the choice's length.
"""

from typing import Any, NamedTuple, Sequence

import numpy as np

from genlm.evaluate import likelihood, spans
from genlm.evaluate.likelihood import Candidate, Scored
from genlm.evaluate.tasks import Row, Task

_LENGTHS = {
    "characters": lambda text, scored: len(text),
    "bytes": lambda text, scored: len(text.encode()),
    "tokens": lambda text, scored: len(scored.logprobs),
}


class Question(NamedTuple):
    """What may follow what, the texts that tell the pairs apart, and which is right."""

    pairs: list[tuple[str, str]]
    texts: list[str]
    gold: int


def question(task: Task, row: Row) -> Question:
    """What a row asks.

    Raises:
      UserError: a field is missing, or `gold` names no choice (names the line).
    """
    if task.kind == "minimal_pairs":
        texts = [row.fill(task.good), row.fill(task.bad)]
        return Question([("", task.between + text) for text in texts], texts, 0)
    if task.contexts:
        texts = row.texts(task.contexts)
        after = task.between + row.fill(task.continuation)
        return Question(
            [(text, after) for text in texts], texts, _gold(task, row, texts)
        )
    context = row.fill(task.context)
    if isinstance(task.choices, str):
        texts = row.texts(task.choices)
    else:
        texts = [row.fill(template) for template in task.choices]
    pairs = [(context, task.between + text) for text in texts]
    return Question(pairs, texts, _gold(task, row, texts))


def _gold(task: Task, row: Row, texts: Sequence[str]) -> int:
    value = task.gold if isinstance(task.gold, int) else row.field(task.gold)
    if isinstance(value, str) and value in texts:
        return texts.index(value)
    if not isinstance(value, int) or not 0 <= value < len(texts):
        raise row.wrong(f"gold is {value!r:.40}, and there are {len(texts)} choices")
    return value


def solved(task: Task, row: Row) -> str:
    """The row with its right answer, as an example."""
    asked = question(task, row)
    return "".join(asked.pairs[asked.gold])


def measure(
    candidate: Candidate, task: Task, rows: Sequence[Row], before: str
) -> list[dict[str, Any]]:
    """Of each row: the choices' log-probabilities, which one is taken, whether that is
    right, and how sure the model is of it.

    Args:
      before: examples, ahead of each context.
    """
    asked = [question(task, row) for row in rows]
    pairs = [
        spans.of_pair(candidate.tokenizer, before + context, continuation)
        for each in asked
        for context, continuation in each.pairs
    ]
    found = iter(likelihood.score(candidate, pairs, task.name))
    return [
        row.record(_answer(task, each, [next(found) for _ in each.pairs]))
        for row, each in zip(rows, asked)
    ]


def _answer(task: Task, asked: Question, scored: Sequence[Scored]) -> dict[str, Any]:
    logprobs = np.asarray([each.total for each in scored])
    shares = np.exp(logprobs - logprobs.max())
    chosen = int(np.argmax(logprobs))
    answer: dict[str, Any] = {
        "logprobs": logprobs.tolist(),
        "gold": asked.gold,
        "chosen": chosen,
        "confidence": float(shares[chosen] / shares.sum()),
        "accuracy": float(chosen == asked.gold),
    }
    if task.kind == "choices" and not task.contexts:
        length = _LENGTHS[task.normalise]
        lengths = [max(1, length(t, s)) for t, s in zip(asked.texts, scored)]
        normalised = int(np.argmax(logprobs / lengths))
        answer["accuracy_normalised"] = float(normalised == asked.gold)
    return answer
