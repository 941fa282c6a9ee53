"""CHECKED: what a model answers, graded by what its row says of an answer.

Before: the rows of a task, with instructions, tests, or whether to refuse. After:
graders, metrics. Answers are greedy, and end before the first stop string. A context is
a text to go on with, or a user's turn in the model's own chat format, where it has one.
"""

from typing import Any, Sequence

from genlm.data import chat
from genlm.errors import UserError
from genlm.evaluate import generations, graders
from genlm.evaluate.likelihood import Candidate
from genlm.evaluate.tasks import Row, Task
from genlm.tokenizer.base import answer_text


def solved(task: Task, row: Row) -> str:
    """What is asked; a row has no right answer, and what it has instead is checked."""
    try:
        graders.CHECKS[task.grader](row.fields)
    except UserError as error:
        raise row.wrong(str(error)) from error
    return row.fill(task.context)


def measure(
    candidate: Candidate, task: Task, rows: Sequence[Row], before: str
) -> list[dict[str, Any]]:
    """Of each row: the answer, its score, and what its grader says beside."""
    del before  # no row has a right answer to show
    prompts = [row.fill(task.context) for row in rows]
    is_turn = task.asked == "turn" and chat.has_template(candidate.tokenizer)
    answers = (_turns if is_turn else _texts)(candidate, task, prompts)
    fields = [row.fields | row.place for row in rows]
    found = graders.grade_all(
        {task.grader: 1.0}, answers, fields, run_code=task.run_code
    )
    records = []
    for row, answer, own, score in zip(rows, answers, fields, found.total):
        record = {"answer": answer, "score": float(score)}
        if task.grader in graders.DETAILS:
            record |= graders.DETAILS[task.grader](answer, own)
        records.append(row.record(record | {"asked": "turn" if is_turn else "text"}))
    return records


def _texts(candidate: Candidate, task: Task, prompts: Sequence[str]) -> list[str]:
    return generations.write(
        candidate,
        prompts,
        max_tokens=task.max_tokens,
        stop=task.stop,
        title=task.name,
    )


def _turns(candidate: Candidate, task: Task, prompts: Sequence[str]) -> list[str]:
    """A turn that has no room beside the answer loses its beginning."""
    room = max(1, candidate.config.max_length - task.max_tokens)
    tokenizer = candidate.tokenizer
    asked = [
        chat.encode_chat(tokenizer, [{"role": "user", "content": prompt}])[-room:]
        for prompt in prompts
    ]
    said = generations.answers(
        candidate, asked, max_tokens=task.max_tokens, title=task.name
    )
    texts = [answer_text(tokenizer, ids, a.tokens) for ids, a in zip(asked, said)]
    return [generations.cut(text, task.stop) for text in texts]
