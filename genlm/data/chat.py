"""CHAT: messages -> the ids that a model reads. The only place that knows chat formats.

Before: what was said, and a tokenizer with its model's chat template. After: decode. A
message is {'role': ..., 'content': ...}, as in transformers' templates.

The forgery law: whatever a message says, it never becomes a control token. The template
is rendered with the messages as they are, and each character of the result knows
whether the template wrote it (genlm.data.authored). Then the result is encoded as one
text in which control tokens are parsed in the template's own characters alone. Roles
count as the template's, since they are of a short list: some templates spell a control
token with them («<|» + role + «|>»).

The same marks say what is trained on: what an assistant says, and what the template
writes after it up to the token that ends an answer, and nothing else.
"""

from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from genlm.data import authored
from genlm.errors import UserError, require_text
from genlm.tokenizer.base import ChatTokenizer, Tokenizer

ROLES = (
    "system developer user assistant model tool function ipython environment".split()
)
ASSISTANT = ("assistant", "model")
Message = Mapping[str, Any]


class Part(NamedTuple):
    """A stretch of a rendered conversation."""

    text: str
    author: int  # one of genlm.data.authored


def render(
    template: str,
    messages: Sequence[Message],
    names: Mapping[str, str],
    add_generation_prompt: bool = True,
) -> list[Part]:
    """The conversation as the template writes it, cut where its author changes.

    Args:
      names: the special tokens that a template may use, {'bos_token': '<s>', ...}.
      add_generation_prompt: end with the beginning of the assistant's turn.

    Raises:
      UserError: a message is none, or the template fails on these, or takes too long.
    """
    try:
        from genlm.data import template as templates
    except ImportError as error:
        raise UserError(
            "a chat template needs jinja2: pip install 'genlm[hf]'"
        ) from error
    try:
        text = templates.compiled(template).render(
            messages=[_message(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **{name: authored.own(token) for name, token in names.items()},
        )
    except UserError:
        raise
    except Exception as error:  # a template is somebody's program: it may do anything
        reason = str(error).split("\n")[0][:300] or type(error).__name__
        raise UserError(f"the chat template cannot be used here: {reason}") from error
    return [Part(*run) for run in authored.runs(text)]


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
) -> list[int]:
    """The ids of a conversation in the format that the model was trained with.

    Raises:
      UserError: the model has no chat template, or it cannot be used on these messages.
    """
    if not has_template(tokenizer):
        raise UserError(
            "this model has no chat template; give it text to go on with instead"
            " (genlm generate)"
        )
    ids, _, _ = _encode(tokenizer, messages, add_generation_prompt)
    return ids.tolist()


def has_template(tokenizer: Tokenizer) -> bool:
    """Whether `encode_chat` knows the format of this tokenizer's model."""
    return isinstance(tokenizer, ChatTokenizer) and tokenizer.chat_template is not None


def encode_training(
    tokenizer: Tokenizer, messages: Sequence[Message]
) -> tuple[np.ndarray, np.ndarray]:
    """A conversation's ids [length] (int32), and whether each [length] is trained on:
    what the assistant says, up to the token that ends its answer.

    Raises:
      UserError: as `encode_chat`; nothing of it is the assistant's, or the template
        ends an answer with no token that ends one.
    """
    ids, parts, part_of = _encode(tokenizer, messages, False)
    authors = np.asarray([part.author for part in parts], np.int64)[part_of]
    trained = authors == authored.ANSWER
    stops = np.isin(ids, tokenizer.special.all_stops)
    for last in np.flatnonzero(trained & ~np.append(trained[1:], False)):
        after = authors[last + 1 :] != authored.TEMPLATE
        end = last + 1 + (int(np.argmax(after)) if after.any() else len(after))
        closing = np.flatnonzero(stops[last + 1 : end])
        if not len(closing):
            raise UserError(
                "the chat template ends an answer with no token that ends one, so the"
                " model would never learn to stop"
            )
        trained[last + 1 : last + 2 + closing[0]] = True
    if not trained.any():
        raise UserError(
            "nothing to train on: no text of an assistant, or a chat template that"
            " changes it"
        )
    return ids, trained


def _encode(
    tokenizer: Any, messages: Sequence[Message], add_generation_prompt: bool
) -> tuple[np.ndarray, list[Part], np.ndarray]:
    """Ids, the rendered parts, and the part that each id ends in."""
    parts = render(
        tokenizer.chat_template, messages, tokenizer.names, add_generation_prompt
    )
    _check_authors(tokenizer, parts, messages)
    ids, part_of = tokenizer.encode_parts(
        [(part.text, _is_own(part)) for part in parts]
    )
    return ids, parts, part_of


def _check_authors(tokenizer: Any, parts: list[Part], messages: Any) -> None:
    """Make sure that no control token of the template was taken for a message's text.

    A template that builds one in a way that is not followed here would be encoded
    wrongly. That shows where no message holds a control token's text.
    """
    whole = tokenizer.count_controls("".join(part.text for part in parts))
    told = sum(tokenizer.count_controls(p.text) for p in parts if _is_own(p))
    if whole > told and not any(map(tokenizer.has_control, _strings(messages))):
        raise UserError(
            "the chat template builds control tokens in a way that cannot be told from"
            " text; write them as they are, as in '<|im_start|>' + role"
        )


def _is_own(part: Part) -> bool:
    return part.author == authored.TEMPLATE


def _message(message: Any) -> dict[str, Any]:
    """A copy of plain values, whose role counts as the template's; what an assistant
    says is marked as its own."""
    if not isinstance(message, Mapping) or "role" not in message:
        raise UserError(
            f"a message is {{'role': ..., 'content': ...}}, not {str(message)[:100]!r}"
        )
    if message["role"] not in ROLES:
        raise UserError(
            f"a message's role is {str(message['role'])[:50]!r}; known are"
            f" {' '.join(ROLES)}"
        )
    plain = _plain(message) | {"role": authored.own(message["role"])}
    if message["role"] in ASSISTANT and isinstance(plain.get("content"), str):
        plain["content"] = authored.answer(plain["content"])
    return plain


def _plain(value: Any) -> Any:
    """`value` in JSON's types alone, and without marks of its own."""
    if isinstance(value, str):
        require_text(value, "a message's text")
        return str.__str__(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    raise UserError(f"a message holds {type(value).__name__}, which is no JSON")


def _strings(value: Any) -> list[str]:
    """Every string in a message."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _strings(item)]
    return []
