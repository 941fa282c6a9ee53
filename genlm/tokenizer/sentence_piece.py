"""SENTENCEPIECE: subwords learnt from a sample, with bytes to fall back on.

Normalisation is the identity and no space is added, so text comes back as it went in.
Three things SentencePiece itself would lose go around it, as byte pieces: bytes that
are not UTF-8, NUL, and «▁», which it uses inside for a space.
https://github.com/google/sentencepiece
"""

import io
import json
from pathlib import Path
import re
from typing import Iterable, Iterator

import numpy as np
import sentencepiece

from genlm.errors import UserError
from genlm.tokenizer.special import Special

_MODEL = "tokenizer.model"
_SPACE = "▁"
_ESCAPED = re.compile(r"[\x00▁\ud800-\udfff]+")
_LINE = 4096  # characters; longer lines are trained on in pieces


class SentencePieceTokenizer:
    """A trained SentencePiece model (BPE or unigram) behind the protocol."""

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        sp = self._processor
        self.vocab_size = sp.vocab_size()
        self.special = Special(sp.pad_id(), sp.bos_id(), sp.eos_id())
        self._byte_ids = [sp.piece_to_id(f"<0x{b:02X}>") for b in range(256)]
        self._pieces = [self._piece_bytes(i) for i in range(self.vocab_size)]

    def _piece_bytes(self, i: int) -> bytes:
        sp = self._processor
        if sp.is_control(i) or sp.is_unknown(i):
            return b""
        piece = sp.id_to_piece(i)
        if sp.is_byte(i):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(_SPACE, " ").encode()

    def encode(self, text: bytes) -> np.ndarray:
        ids: list[int] = []
        end = 0
        # surrogateescape turns each invalid byte into one lone surrogate
        string = text.decode("utf-8", "surrogateescape")
        for match in _ESCAPED.finditer(string):
            ids += self._processor.encode(string[end : match.start()])
            raw = match.group().encode("utf-8", "surrogateescape")
            ids += [self._byte_ids[b] for b in raw]
            end = match.end()
        ids += self._processor.encode(string[end:])
        return np.asarray(ids, np.int32)

    def decode(self, ids: Iterable[int]) -> bytes:
        known = range(self.vocab_size)
        return b"".join(self._pieces[i] for i in map(int, ids) if i in known)

    def save(self, directory: Path) -> None:
        (directory / _MODEL).write_bytes(self.model)
        (directory / "tokenizer.json").write_text(
            json.dumps({"kind": "sentence_piece", "model": _MODEL})
        )

    @classmethod
    def load(cls, directory: Path) -> "SentencePieceTokenizer":
        """The model that `save` wrote.

        Raises:
          UserError: it is not there, or damaged.
        """
        path = directory / _MODEL
        try:
            model = path.read_bytes()
            if not model:  # SentencePiece would take it for a model of no pieces
                raise UserError(f"{path} is damaged: it is empty")
            return cls(model)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (RuntimeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged: no SentencePiece model") from error


def train(
    texts: Iterable[str], *, vocab_size: int, algorithm: str, seed: int
) -> SentencePieceTokenizer:
    """A tokenizer of exactly `vocab_size` pieces learnt from `texts`.

    Args:
      algorithm: 'bpe' or 'unigram'.

    Raises:
      UserError: the texts hold too little for `vocab_size`, or too many characters.
    """
    model = io.BytesIO()
    sentencepiece.set_random_generator_seed(seed)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            model_type=algorithm,
            vocab_size=vocab_size,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            required_chars=_SPACE,  # else text without a space has no piece for one
            character_coverage=0.9999,
            user_defined_symbols=["\n"],
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            max_sentence_length=8 * _LINE,
            num_threads=1,  # more threads break ties in an order that varies
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"cannot learn {vocab_size} pieces from this text: {_reason(str(error))}"
        ) from error
    return SentencePieceTokenizer(model.getvalue())


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.split("\n"):
            for start in range(0, len(line), _LINE):
                piece = line[start : start + _LINE]
                # half a surrogate pair is no character: it is encoded as bytes
                yield piece.encode("utf-8", "ignore").decode("utf-8")


def _reason(text: str) -> str:
    """What SentencePiece's complaint means for who set the vocabulary's size."""
    if few := re.search(r"smaller than required_chars. \d+ vs (\d+)", text):
        return (
            f"its characters, the 256 bytes and the control tokens are {few[1]};"
            f" set tokenizer.vocab_size to {few[1]} or more"
        )
    if many := re.search(r"set it to a value <= (\d+)", text):
        return f"set tokenizer.vocab_size to {many[1]} or less"
    if "sentences_.empty()" in text:
        return "none of it was drawn; set a larger tokenizer.sample_bytes"
    return text.strip().splitlines()[-1][-160:]
