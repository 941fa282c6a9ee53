"""BYTES <-> IDS."""

import json
from pathlib import Path

from genlm.errors import UserError
from genlm.tokenizer.base import Tokenizer


def load(directory: Path) -> Tokenizer:
    """The tokenizer that was saved in `directory`.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = directory / "tokenizer.json"
    try:
        kind = json.loads(path.read_bytes())["kind"]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: it names no kind of tokenizer") from error
    if kind == "byte":
        from genlm.tokenizer.byte import ByteTokenizer

        return ByteTokenizer()
    if kind == "sentence_piece":
        from genlm.tokenizer.sentence_piece import SentencePieceTokenizer

        return SentencePieceTokenizer.load(directory)
    if kind == "huggingface":
        from genlm.tokenizer.huggingface import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(directory)
    if kind == "controls":
        from genlm.tokenizer.controls import ControlsTokenizer

        return ControlsTokenizer.load(directory)
    raise UserError(f"{path} names an unknown kind of tokenizer, {kind!r}")
