"""FORMS: the shapes that instruction data comes in -> conversations of messages.

Before: a row of JSON. After: conversations. A message is {'role': ..., 'content': ...}
with a role of ROLES; texts stay as they are, to the space. A row that does not fit says
in words why.
"""

from typing import Any, Callable, NamedTuple

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


class Unfit(Exception):
    """Why a row is no conversation."""


class Form(NamedTuple):
    """A shape of row: the fields that tell it, and its conversations."""

    fields: str
    has: Callable[[dict], bool]
    read: Callable[[dict], list[Messages]]


def conversations(row: Any, form: str) -> list[Messages]:
    """The conversations of a row of a form: one, or several of Self-Instruct's.

    Raises:
      Unfit: the row has not this form, or lacks what makes a conversation.
    """
    if not isinstance(row, dict):
        raise Unfit(f"{_kind(row)} and no object with fields")
    if not FORMS[form].has(row):
        raise Unfit(f"its fields ({_names(row)}) are not those of {form}")
    found = FORMS[form].read(row)
    for messages in found:
        _check(messages)
    return found


def recognise(row: Any) -> str:
    """The form that a row has: the first that it fits, or at least has the fields of.

    Raises:
      Unfit: it has the fields of none.
    """
    if not isinstance(row, dict):
        raise Unfit(f"{_kind(row)} and no object with fields")
    like = [form for form in FORMS if FORMS[form].has(row)]
    if not like:
        raise Unfit(f"its fields ({_names(row)}) are those of no form")
    return next((form for form in like if _fits(row, form)), like[0])


def _fits(row: dict, form: str) -> bool:
    try:
        return bool(conversations(row, form))
    except Unfit:
        return False


def _check(messages: Messages) -> None:
    """Make sure that there is something to learn, and that UTF-8 can write it."""
    for number, message in enumerate(messages, 1):
        role, text = message["role"], message["content"]
        if role != "tool" and not text.strip():
            raise Unfit(f"turn {number}, the {role}'s, is empty")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Unfit(f"turn {number} holds half a character (a lone surrogate)")
    if not any(message["role"] == "assistant" for message in messages):
        raise Unfit("no assistant's turn")


def _turns(turns: Any) -> list[Messages]:
    """The messages of a list of turns, in OpenAI's words or in ShareGPT's.

    An empty system turn, which many sets have, is left out.
    """
    if not isinstance(turns, list) or not turns:
        raise Unfit(f"its turns are {_kind(turns)} and no list of some")
    messages = [_turn(turn, number) for number, turn in enumerate(turns, 1)]
    return [[m for m in messages if m["role"] != "system" or m["content"].strip()]]


def _turn(turn: Any, number: int) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise Unfit(f"turn {number} is {_kind(turn)} and no object")
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role not in _ROLE_OF:
        raise Unfit(
            f"turn {number} has the role {str(role)[:30]!r}, none of {' '.join(ROLES)}"
        )
    name = "content" if "content" in turn else "value"
    return {"role": _ROLE_OF[role], "content": _text(turn, name, f"turn {number}'s ")}


def _alpaca(row: dict) -> list[Messages]:
    instances = row["instances"] if "instances" in row else [row]
    if not isinstance(instances, list) or not instances:
        raise Unfit(f"instances is {_kind(instances)} and no list of some")
    if wrong := [i for i in instances if not isinstance(i, dict)]:
        raise Unfit(f"one of its instances is {_kind(wrong[0])} and no object")
    return [_instance(row, instance) for instance in instances]


def _instance(row: dict, instance: dict) -> Messages:
    """The user's turn is the instruction and, after a blank line, the input."""
    asked = _text(row, "instruction")
    given = next((name for name in _INPUTS if instance.get(name) is not None), None)
    if given and _text(instance, given).strip():
        asked = f"{asked}\n\n{instance[given]}"
    answer = next((name for name in _OUTPUTS if name in instance), _OUTPUTS[0])
    return _exchange(asked, _text(instance, answer))


def _pair_form(pairs: tuple[tuple[str, str], ...]) -> Form:
    """What is asked in one field and answered in another; of `pairs`, the first."""

    def names(row: dict) -> list[tuple[str, str]]:
        return [pair for pair in pairs if set(pair) <= set(row)]

    def read(row: dict) -> list[Messages]:
        asked, answered = names(row)[0]
        return [_exchange(_text(row, asked), _text(row, answered))]

    return Form(_spelled(pairs), lambda row: bool(names(row)), read)


def _exchange(asked: str, answer: str) -> Messages:
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": answer},
    ]


def _text(fields: dict, name: str, whose: str = "its ") -> str:
    if name not in fields:
        raise Unfit(f"{whose}{name} is missing")
    if not isinstance(fields[name], str):
        raise Unfit(f"{whose}{name} is {_kind(fields[name])} and no text")
    return fields[name]


def _kind(value: Any) -> str:
    """What a value of JSON is, in words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        return kind if value else kind.replace(" ", " empty ").replace("a e", "an e")
    return "a text" if isinstance(value, str) else "a number"


def _names(row: dict) -> str:
    named = [str(name)[:30] for name in row]
    return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "") or "none"


def _spelled(pairs: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{asked} + {answered}" for asked, answered in pairs)


FORMS = {
    "messages": Form(
        "messages [{role, content}]",
        lambda row: "messages" in row,
        lambda row: _turns(row["messages"]),
    ),
    "sharegpt": Form(
        "conversations [{from, value}]",
        lambda row: "conversations" in row,
        lambda row: _turns(row["conversations"]),
    ),
    "alpaca": Form(
        "instruction, input and output (or instances [{input, output}])",
        lambda row: "instruction" in row,
        _alpaca,
    ),
    "prompt_response": _pair_form(_PROMPTS),
    "pairs": _pair_form(_PAIRS),
}
