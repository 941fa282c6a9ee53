"""BYTES: a byte is its own id; PAD, BOS and STOP come after the 256."""

import json
from pathlib import Path
from typing import Iterable

import numpy as np

from genlm.tokenizer.special import Special


class ByteTokenizer:
    """Vocabulary of 259: no training, no loss, any language or file."""

    vocab_size = 259
    special = Special(pad=256, bos=257, stop=258)

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, np.uint8).astype(np.int32)

    def decode(self, ids: Iterable[int]) -> bytes:
        return bytes(int(i) for i in ids if 0 <= i < 256)

    def save(self, directory: Path) -> None:
        (directory / "tokenizer.json").write_text(json.dumps({"kind": "byte"}))
