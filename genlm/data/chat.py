"""CHAT: messages -> the ids that a model reads. The only place that knows chat formats.

Before: what was said, and a tokenizer with its model's chat template. After: decode. A
message is {'role': ..., 'content': ...}, as in transformers' templates.

The forgery law: whatever a message says, it never becomes a control token. The template
is rendered with the messages as they are, and each character of the result knows
whether the template wrote it (genlm.data.authored). Then the result is encoded as one
text in which control tokens are parsed in the template's own characters alone. Roles
count as the template's, since they are of a short list: some templates spell a control
token with them («<|» + role + «|>»).
"""

from typing import Any, Mapping, NamedTuple, Sequence

from genlm.data import authored
from genlm.errors import UserError, require_text
from genlm.tokenizer.base import Tokenizer

ROLES = (
    "system developer user assistant model tool function ipython environment".split()
)
Message = Mapping[str, Any]


class Part(NamedTuple):
    """A stretch of a rendered conversation."""

    text: str
    is_template: bool  # whether the template wrote it, or somebody else


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
    from genlm.tokenizer.huggingface import HuggingFaceTokenizer

    if not isinstance(tokenizer, HuggingFaceTokenizer) or (
        tokenizer.extras.chat_template is None
    ):
        raise UserError(
            "this model has no chat template; give it text to go on with instead"
            " (genlm generate)"
        )
    parts = render(
        tokenizer.extras.chat_template,
        messages,
        tokenizer.extras.names,
        add_generation_prompt,
    )
    _check_authors(tokenizer, parts, messages)
    return tokenizer.encode_parts(parts).tolist()


def _check_authors(tokenizer: Any, parts: list[Part], messages: Any) -> None:
    """Make sure that no control token of the template was taken for a message's text.

    A template that builds one in a way that is not followed here would be encoded
    wrongly. That shows where no message holds a control token's text.
    """
    whole = tokenizer.count_controls("".join(part.text for part in parts))
    told = sum(tokenizer.count_controls(p.text) for p in parts if p.is_template)
    if whole > told and not any(map(tokenizer.has_control, _strings(messages))):
        raise UserError(
            "the chat template builds control tokens in a way that cannot be told from"
            " text; write them as they are, as in '<|im_start|>' + role"
        )


def _message(message: Any) -> dict[str, Any]:
    """A copy of plain values, whose role counts as the template's."""
    if not isinstance(message, Mapping) or "role" not in message:
        raise UserError(
            f"a message is {{'role': ..., 'content': ...}}, not {str(message)[:100]!r}"
        )
    if message["role"] not in ROLES:
        raise UserError(
            f"a message's role is {str(message['role'])[:50]!r}; known are"
            f" {' '.join(ROLES)}"
        )
    return _plain(message) | {"role": authored.own(message["role"])}


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
