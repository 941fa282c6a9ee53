"""CONVERSATIONS: what a model answers in conversations that it was not trained on.

Before: the rows of a task, conversations with an answer at their end. After: graders,
metrics. Each is answered twice: greedily, which is graded, and drawn at temperature 1,
which says whether the model stops by itself.
"""

from typing import Any, Sequence

from genlm.data import chat
from genlm.evaluate import generations, graders
from genlm.evaluate.likelihood import Candidate
from genlm.evaluate.tasks import Row, Task
from genlm.inference.sampling import SamplingConfig
from genlm.tokenizer.base import answer_text


def solved(task: Task, row: Row) -> str:
    """What is asked last, and its right answer."""
    *_, asked, answer = row.field("messages")
    return f"{asked['content']}\n{answer['content']}"


def measure(
    candidate: Candidate, task: Task, rows: Sequence[Row], before: str
) -> list[dict[str, Any]]:
    """Of each row: the greedy answer and its score, and whether a drawn one ended
    before task.max_tokens."""
    del before  # examples are turns of a conversation, if anything
    tokenizer = candidate.tokenizer
    prompts = [chat.encode_chat(tokenizer, r.field("messages")[:-1]) for r in rows]
    right = [
        {"references": [row.field("messages")[-1]["content"]], **row.place}
        for row in rows
    ]
    told, drawn = (
        generations.answers(
            candidate,
            prompts,
            max_tokens=task.max_tokens,
            title=f"{task.name}, {how}",
            sampling=SamplingConfig(temperature),
        )
        for how, temperature in (("greedy", 0.0), ("drawn", 1.0))
    )
    answers = [answer_text(tokenizer, p, a.tokens) for p, a in zip(prompts, told)]
    scores = graders.grade_all({task.grader: 1.0}, answers, right).total
    return [
        row.record(
            {
                "answer": answer,
                "references": fields["references"],
                "score": float(score),
                "stopped": float(other.stop_reason == "stop"),
            }
        )
        for row, answer, fields, score, other in zip(
            rows, answers, right, scores, drawn
        )
    ]
