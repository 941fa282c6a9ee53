"""CONTROLS: any tokenizer with the control tokens of a chat besides.

Before: the tokenizer of a model that was trained on text alone. After: fine-tuning on
conversations, whose model has a few rows more in its embedding. The new ids come after
all others and no text spells them: `encode` is the old tokenizer's.
"""

import json
from pathlib import Path
import re
from typing import Iterable

import numpy as np

from genlm.errors import UserError
from genlm.tokenizer.base import Tokenizer
from genlm.tokenizer.special import Special

BASE = "base"  # the folder of the tokenizer beneath
BOS, BEGIN, END = "<|bos|>", "<|im_start|>", "<|im_end|>"
# https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    f"{{{{ '{BEGIN}' + message['role'] + '\\n' + message['content'] + '{END}\\n' }}}}"
    "{% endfor %}{% if add_generation_prompt %}"
    f"{{{{ '{BEGIN}assistant\\n' }}}}{{% endif %}}"
)


class ControlsTokenizer:
    """`base` with BEGIN and END of a turn, which also ends an answer."""

    chat_template = CHATML

    def __init__(self, base: Tokenizer):
        self.base = base
        self.vocab_size = base.vocab_size + 2
        self.controls = {BEGIN: base.vocab_size, END: base.vocab_size + 1}
        stops = (*base.special.stops, self.controls[END])
        self.special: Special = base.special._replace(stops=stops)
        bos = base.special.bos
        self.names = {"bos_token": "" if bos is None else BOS}
        if bos is not None:
            self.controls[BOS] = bos
        self._names = re.compile("|".join(map(re.escape, self.controls)))

    def encode(self, text: bytes) -> np.ndarray:
        return self.base.encode(text)

    def decode(self, ids: Iterable[int]) -> bytes:
        known = range(self.base.vocab_size)
        return self.base.decode(i for i in map(int, ids) if i in known)

    def encode_parts(
        self, parts: Iterable[tuple[str, bool]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of (text, is_trusted) parts: ids [length] (int32), and the part [length] that
        each is of. Control tokens are parsed in trusted parts alone."""
        ids, numbers = [], []
        for number, (text, is_trusted) in enumerate(parts):
            found = self._trusted(text) if is_trusted else self.encode(text.encode())
            ids.append(found)
            numbers.append(np.full(len(found), number))
        none = np.zeros(0, np.int32)
        return np.concatenate([none, *ids]), np.concatenate([none, *numbers])

    def _trusted(self, text: str) -> np.ndarray:
        found: list[np.ndarray] = []
        end = 0
        for match in self._names.finditer(text):
            found.append(self.encode(text[end : match.start()].encode()))
            found.append(np.asarray([self.controls[match.group()]], np.int32))
            end = match.end()
        return np.concatenate([*found, self.encode(text[end:].encode())])

    def has_control(self, text: str) -> bool:
        """Whether `text` holds what a trusted text would spell a control token with."""
        return self._names.search(text) is not None

    def count_controls(self, text: str) -> int:
        return len(self._names.findall(text))

    def save(self, directory: Path) -> None:
        (directory / BASE).mkdir()
        self.base.save(directory / BASE)
        (directory / "tokenizer.json").write_text(json.dumps({"kind": "controls"}))

    @classmethod
    def load(cls, directory: Path) -> "ControlsTokenizer":
        """The tokenizer that `save` wrote.

        Raises:
          UserError: the one beneath is not there, or damaged.
        """
        from genlm import tokenizer as tokenizers

        base = tokenizers.load(directory / BASE)
        if isinstance(base, ControlsTokenizer):
            raise UserError(f"{directory} is damaged: it is one within another")
        return cls(base)
