"""FORMS: the shapes that instruction data comes in -> conversations of messages.

Before: a row of JSON. After: conversations. A message is {'role': ..., 'content': ...}
with a role of ROLES; texts stay as they are, to the space.
"""

from typing import Any

from genlm.data.shapes import Form, Shapes, Unfit, kind, require_whole, text

Messages = list[dict[str, str]]

ROLES = ("system", "developer", "user", "assistant", "tool")
_ROLE_OF = dict(zip(ROLES, ROLES)) | {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "observation": "tool",
}
_PROMPTS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("query", "response"),
    ("context", "continuation"),
)
_PAIRS = (
    ("input", "target"),
    ("inputs", "targets"),
    ("input", "output"),
    ("input", "answer"),
)
_INPUTS = ("input", "context")
_OUTPUTS = ("output", "response")


def check_turns(messages: Messages) -> None:
    """Make sure that each turn says something, and that UTF-8 can write it.

    Raises:
      Unfit: one does not.
    """
    for number, message in enumerate(messages, 1):
        role, said = message["role"], message["content"]
        if role != "tool" and not said.strip():
            raise Unfit(f"turn {number}, the {role}'s, is empty")
        require_whole(said, f"turn {number}")


def _check(messages: Messages) -> None:
    """Make sure that there is something to learn."""
    check_turns(messages)
    if not any(message["role"] == "assistant" for message in messages):
        raise Unfit("no assistant's turn")


def turns(listed: Any) -> Messages:
    """The messages of a list of turns, in OpenAI's words or in ShareGPT's.

    An empty system turn, which many sets have, is left out.

    Raises:
      Unfit: it is no such list.
    """
    if not isinstance(listed, list) or not listed:
        raise Unfit(f"its turns are {kind(listed)} and no list of some")
    messages = [_turn(turn, number) for number, turn in enumerate(listed, 1)]
    return [m for m in messages if m["role"] != "system" or m["content"].strip()]


def _turn(turn: Any, number: int) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise Unfit(f"turn {number} is {kind(turn)} and no object")
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role not in _ROLE_OF:
        raise Unfit(
            f"turn {number} has the role {str(role)[:30]!r}, none of {' '.join(ROLES)}"
        )
    name = "content" if "content" in turn else "value"
    return {"role": _ROLE_OF[role], "content": text(turn, name, f"turn {number}'s ")}


def _alpaca(row: dict) -> list[Messages]:
    instances = row["instances"] if "instances" in row else [row]
    if not isinstance(instances, list) or not instances:
        raise Unfit(f"instances is {kind(instances)} and no list of some")
    if wrong := [i for i in instances if not isinstance(i, dict)]:
        raise Unfit(f"one of its instances is {kind(wrong[0])} and no object")
    return [_instance(row, instance) for instance in instances]


def _instance(row: dict, instance: dict) -> Messages:
    answer = next((name for name in _OUTPUTS if name in instance), _OUTPUTS[0])
    return _exchange(instruction(row, instance), text(instance, answer))


def instruction(row: dict, instance: dict) -> str:
    """What the user says: the instruction and, after a blank line, the input.

    Raises:
      Unfit: one of them is no text.
    """
    asked = text(row, "instruction")
    given = next((name for name in _INPUTS if instance.get(name) is not None), None)
    if given and text(instance, given).strip():
        asked = f"{asked}\n\n{instance[given]}"
    return asked


def _pair_form(pairs: tuple[tuple[str, str], ...]) -> Form:
    """What is asked in one field and answered in another; of `pairs`, the first."""

    def names(row: dict) -> list[tuple[str, str]]:
        return [pair for pair in pairs if set(pair) <= set(row)]

    def read(row: dict) -> list[Messages]:
        asked, answered = names(row)[0]
        return [_exchange(text(row, asked), text(row, answered))]

    return Form(_spelled(pairs), lambda row: bool(names(row)), read)


def _exchange(asked: str, answer: str) -> Messages:
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": answer},
    ]


def _spelled(pairs: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{asked} + {answered}" for asked, answered in pairs)


CONVERSATIONS = Shapes(
    "conversation",
    {
        "messages": Form(
            "messages [{role, content}]",
            lambda row: "messages" in row,
            lambda row: [turns(row["messages"])],
        ),
        "sharegpt": Form(
            "conversations [{from, value}]",
            lambda row: "conversations" in row,
            lambda row: [turns(row["conversations"])],
        ),
        "alpaca": Form(
            "instruction, input and output (or instances [{input, output}])",
            lambda row: "instruction" in row,
            _alpaca,
        ),
        "prompt_response": _pair_form(_PROMPTS),
        "pairs": _pair_form(_PAIRS),
    },
    _check,
)
