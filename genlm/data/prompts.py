"""PROMPTS: what a policy is asked, with what graders read of it.

Before: conversations that end with an answer, rows that say how an answer is checked,
or the sums that every Python can make. After: rollouts, and the rewards that grade
them. Split as conversations are, by what is asked: what a fine-tuning held out is held
out here.
"""

from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

from genlm.data import chat, conversations, exercises, sources, synthetic
from genlm.errors import UserError

SUMS = "embedded:sums"  # of two numbers from 10 to 99
FIELDS = "fields"  # the form of rows with a text `prompt`, and fields for a grader


class Prompt(NamedTuple):
    """messages: up to what is to be answered; fields: what evaluate.graders read, of
    conversations their last answer, as the one that is right."""

    messages: list[dict[str, Any]]
    fields: dict[str, Any]
    keys: tuple[str, ...]  # what is asked: see data.synthetic


def check_form(form: str) -> None:
    """Make sure that a form is one of conversations, or FIELDS."""
    if form != FIELDS:
        conversations.check_form(form)


def read(paths: str, form: str, strict: bool) -> list[Prompt]:
    """The prompts of `paths` (see conversations.read, or SUMS), each once, in order.

    Raises:
      UserError: as conversations.read; or there is none.
    """
    found = {repr(each.messages): each for each in _all(paths, form, strict)}
    if not found:
        raise UserError(f"data.paths: no conversation of {paths} ends with an answer")
    return list(found.values())


def _all(paths: str, form: str, strict: bool) -> Iterator[Prompt]:
    if paths == SUMS:
        for question in exercises.two_digit_sums():
            messages = [{"role": "user", "content": question.text}]
            yield Prompt(messages, {"references": [question.answer]}, (question.key,))
    elif form == FIELDS:
        for path in sources.resolve(paths):
            yield from _with_fields(path)
    else:
        for each in conversations.read(paths, form, strict):
            *messages, last = each["messages"]
            if last["role"] in chat.ASSISTANT and messages:
                place = {"file": each["file"], "line": each["line"]}
                fields = {"references": [last["content"]], **place}
                yield Prompt(messages, fields, tuple(each["keys"]))


def _with_fields(path: Path) -> Iterator[Prompt]:
    for row in conversations.rows(path):
        value = row.value
        if row.problem or not isinstance(value, dict):
            raise UserError(f"{path}:{row.number}: {row.problem or 'no JSON object'}")
        prompt = value.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"{path}:{row.number}: no text in its field 'prompt'")
        fields = {**value, "file": str(path), "line": row.number}
        yield Prompt([{"role": "user", "content": prompt}], fields, (prompt,))


def split(
    prompts: Sequence[Prompt], fraction: float
) -> tuple[list[Prompt], list[Prompt]]:
    """Those to train on, and the held-out fraction.

    Raises:
      UserError: one of both would be empty.
    """
    sides: tuple[list[Prompt], list[Prompt]] = ([], [])
    for each in prompts:
        sides[synthetic.is_held_out({"keys": each.keys}, fraction)].append(each)
    if not all(sides):
        raise UserError(
            f"data.valid_fraction {fraction}: of {len(prompts)} prompts"
            f" {len(sides[1])} would be held out; give more of them"
        )
    return sides
