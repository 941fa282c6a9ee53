"""BYTES <-> IDS."""

import json
from pathlib import Path

from genlm.errors import UserError
from genlm.tokenizer.base import Tokenizer


def load(directory: Path) -> Tokenizer:
    """The tokenizer that was saved in `directory`."""
    try:
        kind = json.loads((directory / "tokenizer.json").read_text())["kind"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no readable tokenizer in {directory}: {error}") from error
    if kind == "byte":
        from genlm.tokenizer.byte import ByteTokenizer

        return ByteTokenizer()
    if kind == "sentence_piece":
        from genlm.tokenizer.sentence_piece import SentencePieceTokenizer

        return SentencePieceTokenizer.load(directory)
    raise UserError(f"{directory} holds a tokenizer of unknown kind {kind!r}")
