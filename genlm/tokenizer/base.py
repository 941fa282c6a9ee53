"""THE TOKENIZER PROTOCOL: bytes <-> ids.

Before: cleaned text. After: token shards, prompts and answers. `encode` is the
untrusted mode: whatever the text says, no control token comes out of it. Control
tokens are put in by their ids (`special`), by code that knows why.
"""

from pathlib import Path
from typing import Iterable, Protocol, Sequence, runtime_checkable

import numpy as np

from genlm.tokenizer.special import Special


class Tokenizer(Protocol):
    """What every tokenizer offers. decode(encode(x)) == x for any bytes x."""

    vocab_size: int
    special: Special

    def encode(self, text: bytes) -> np.ndarray:
        """Ids [length] (int32) of `text`, without control tokens."""

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` spell; control tokens spell nothing."""

    def save(self, directory: Path) -> None:
        """Write what `genlm.tokenizer.load` needs into `directory`."""


@runtime_checkable
class ChatTokenizer(Tokenizer, Protocol):
    """A tokenizer that a chat template may be written for; one has none yet."""

    chat_template: str | None
    names: dict[str, str]  # of special tokens in the template: {'bos_token': '<s>'}

    def encode_parts(
        self, parts: Iterable[tuple[str, bool]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of (text, is_trusted) parts: ids [length] (int32), and the part [length] that
        each ends in. Control tokens are parsed in trusted parts alone."""

    def has_control(self, text: str) -> bool:
        """Whether `text` holds what a trusted text would spell a control token with."""

    def count_controls(self, text: str) -> int:
        """How many it holds."""


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids that a model reads before it continues `prompt`: BOS and the text's.

    A model without BOS reads the text's alone, and STOP where that is empty: it stood
    before most documents of its training.
    """
    ids = tokenizer.encode(prompt.encode()).tolist()
    bos = tokenizer.special.bos
    if bos is None:
        return ids or [tokenizer.special.stop]
    return [bos, *ids]


def answer_text(
    tokenizer: Tokenizer, prompt: Sequence[int], answer: Sequence[int]
) -> str:
    """What an answer adds to its prompt: a tokenizer that puts a space before a text
    takes it away from an answer that stands alone."""
    before = tokenizer.decode(prompt)
    whole = tokenizer.decode([*prompt, *answer])
    if not whole.startswith(before):
        whole, before = tokenizer.decode(answer), b""
    return whole[len(before) :].decode("utf-8", "replace")
