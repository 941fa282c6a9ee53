"""PROMPTS: what a policy is asked, with what would be right.

Before: conversations that end with an answer, or the sums that every Python can make.
After: rollouts, and the rewards that grade them. Split as conversations are, by what is
asked: what a fine-tuning held out is held out here.
"""

from typing import Any, Iterator, NamedTuple, Sequence

from genlm.data import chat, conversations, exercises, synthetic
from genlm.errors import UserError

SUMS = "embedded:sums"  # of two numbers from 10 to 99


class Prompt(NamedTuple):
    """messages: up to what is to be answered; answer: what would be right."""

    messages: list[dict[str, Any]]
    answer: str
    keys: tuple[str, ...]  # what is asked: see data.synthetic


def read(paths: str, form: str, strict: bool) -> list[Prompt]:
    """The prompts of `paths` (see conversations.read, or SUMS), each once, in order.

    Raises:
      UserError: as conversations.read; or none of them ends with an answer.
    """
    found = {repr(each.messages): each for each in _all(paths, form, strict)}
    if not found:
        raise UserError(f"data.paths: no conversation of {paths} ends with an answer")
    return list(found.values())


def _all(paths: str, form: str, strict: bool) -> Iterator[Prompt]:
    if paths == SUMS:
        for question in exercises.two_digit_sums():
            messages = [{"role": "user", "content": question.text}]
            yield Prompt(messages, question.answer, (question.key,))
        return
    for each in conversations.read(paths, form, strict):
        *messages, last = each["messages"]
        if last["role"] in chat.ASSISTANT and messages:
            yield Prompt(messages, last["content"], tuple(each["keys"]))


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
