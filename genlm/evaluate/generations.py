"""GENERATIONS: what a model writes after each row's prompt, graded.

Before: the rows of a task. After: graders, metrics. Answers are greedy, and end
before the first stop string.
"""

from typing import Any, Sequence

from genlm.evaluate import graders
from genlm.evaluate.likelihood import Candidate
from genlm.evaluate.tasks import Row, Task
from genlm.inference import decode
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.runs.progress import Bar
from genlm.tokenizer.base import answer_text, prompt_ids

_ROWS = 16  # of a batch


def solved(task: Task, row: Row) -> str:
    """The row with its right answer, as an example."""
    return row.fill(task.context) + task.between + row.texts(task.answer)[0].strip()


def measure(
    candidate: Candidate, task: Task, rows: Sequence[Row], before: str
) -> list[dict[str, Any]]:
    """Of each row: the answer, what is right, and the score.

    Args:
      before: examples, ahead of each context.
    """
    prompts = [before + row.fill(task.context) for row in rows]
    right = [{"references": row.texts(task.answer), **row.place} for row in rows]
    answers = write(
        candidate,
        prompts,
        max_tokens=task.max_tokens,
        stop=task.stop,
        title=task.name,
    )
    scores = graders.grade_all({task.grader: 1.0}, answers, right).total
    return [
        row.record(
            {
                "answer": answer,
                "references": fields["references"],
                "score": float(score),
            }
        )
        for row, answer, fields, score in zip(rows, answers, right, scores)
    ]


def write(
    candidate: Candidate,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    stop: Sequence[str],
    title: str,
    sampling: SamplingConfig = SamplingConfig(temperature=0.0),
    seed: int = 0,
) -> list[str]:
    """The answer to each prompt, cut before the first of the strings `stop`.

    A prompt of more tokens than the model has room for loses its beginning.
    """
    tokenizer = candidate.tokenizer
    room = max(1, candidate.config.max_length - max_tokens)
    ids = [prompt_ids(tokenizer, prompt)[-room:] for prompt in prompts]
    said = answers(
        candidate,
        ids,
        max_tokens=max_tokens,
        title=title,
        sampling=sampling,
        seed=seed,
    )
    texts = [answer_text(tokenizer, p, a.tokens) for p, a in zip(ids, said)]
    return [cut(text, stop) for text in texts]


def answers(
    candidate: Candidate,
    ids: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    title: str,
    sampling: SamplingConfig = SamplingConfig(temperature=0.0),
    seed: int = 0,
) -> list[Answer]:
    """The answer to each prompt of ids."""
    special = candidate.tokenizer.special
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: dict[int, Answer] = {}
    with Bar(title, len(ids), unit="answers") as bar:
        for start in range(0, len(order), _ROWS):
            batch = order[start : start + _ROWS]
            asked = [ids[i] for i in batch]
            asked += asked[-1:] * (_ROWS - len(asked)) if len(order) > _ROWS else []
            said = decode.generate(
                candidate.params,
                candidate.config,
                asked,
                max_tokens=max_tokens,
                stop_ids=special.all_stops,
                pad=special.pad,
                sampling=sampling,
                seed=seed + start,  # so that no two batches draw alike
            )
            found |= zip(batch, said)
            bar.update(start + len(batch))
    return [found[i] for i in range(len(ids))]


def cut(text: str, stop: Sequence[str]) -> str:
    """`text` before the first of the strings `stop`."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=None)]
