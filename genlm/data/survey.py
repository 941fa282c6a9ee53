"""THE SURVEY: one reading of all documents that decides what becomes of each.

Before: clean. After: the tokenizer (trained on `sample`) and shards (through `split`).
A document is held out by its hash: the lowest `valid_fraction` of all hashes, and at
least one text on each side. A corpus of a single text is held out at its end.
Text is drawn for the sample by the hash of its own 64 kB units, held-out text never.
"""

import array
from typing import Iterable, Iterator

import numpy as np

from genlm.data import dedup
from genlm.data.sources import Document
from genlm.errors import UserError

_UNIT = 1 << 16  # characters
_HASHES = 2**64


class Survey:
    """kept[document], valid[document]: which stay, and which are held out."""

    def __init__(
        self, keys: np.ndarray, chars: np.ndarray, deduplicate: bool, valid: float
    ):
        first = dedup.first_of_each(keys) if deduplicate else np.ones(len(keys), bool)
        self.kept = first & (chars > 0)
        self.duplicates = int(np.sum(~first))
        self.valid = np.zeros(len(keys), bool)
        self.cut = 0  # of a single document: the first character held out
        self.sample: list[str] = []
        by_hash = np.unique(keys[self.kept])
        if len(by_hash) == 0:
            raise UserError("data.paths: these files hold nothing but white space")
        if len(by_hash) == 1:
            length = int(chars[self.kept][0])
            if length < 2:
                raise UserError("data.paths: one character is no text to learn from")
            self.cut = min(max(int(length * (1 - valid)), 1), length - 1)
            return
        held_out = int(np.searchsorted(by_hash, np.uint64(valid * _HASHES)))
        held_out = min(max(held_out, 1), len(by_hash) - 1)
        self.valid = self.kept & (keys < by_hash[held_out])

    @classmethod
    def of(
        cls,
        documents: Iterable[Document],
        *,
        total_bytes: int,
        sample_bytes: int,
        dedup: bool,
        valid_fraction: float,
    ) -> "Survey":
        """Read all documents once. The sample holds about `sample_bytes` of the
        `total_bytes` there are (all of them where that is 0)."""
        keys, chars, drawn = _read(documents, total_bytes, sample_bytes)
        survey = cls(np.asarray(keys), np.asarray(chars), dedup, valid_fraction)
        for number, at, text in drawn:
            if survey.kept[number] and not survey.valid[number]:
                end = survey.cut - at if survey.cut else len(text)
                survey.sample += [text[:end]] if end > 0 else []
        return survey

    def split(self, number: int, parts: Iterable[str]) -> Iterator[tuple[str, str]]:
        """('train' or 'valid', text) of the parts of document `number`, in order.

        Raises:
          UserError: there are more documents now than there were.
        """
        if number >= len(self.kept):
            raise UserError("data.paths: a file grew while it was read; run again")
        at = 0
        for text in parts if self.kept[number] else ():
            if not self.cut:
                yield ("valid" if self.valid[number] else "train"), text
                continue
            end = min(max(self.cut - at, 0), len(text))
            at += len(text)
            for split, piece in (("train", text[:end]), ("valid", text[end:])):
                if piece:
                    yield split, piece


Drawn = list[tuple[int, int, str]]  # document, its character the text begins at, text


def _read(
    documents: Iterable[Document], total_bytes: int, sample_bytes: int
) -> tuple[array.array, array.array, Drawn]:
    """Hash and length of every document, and the drawn text, each once."""
    share = min(1.0, sample_bytes / total_bytes) if total_bytes else 1.0
    lowest = int((1 - share) * _HASHES)
    keys, chars = array.array("Q"), array.array("q")
    drawn: dict[int, tuple[int, int, str]] = {}
    for number, document in enumerate(documents):
        key, at, written = dedup.Key(), 0, False
        for part in document.parts():
            key.add(part)
            for start in range(0, len(part), _UNIT) if sample_bytes else ():
                text = part[start : start + _UNIT]
                unit = dedup.Key(text).value()
                if unit >= lowest:
                    drawn.setdefault(unit, (number, at + start, text))
            at += len(part)
            written = written or bool(part.strip())
        keys.append(key.value())
        chars.append(at if written else 0)
    if not keys:
        raise UserError("data.paths: these files hold nothing but white space")
    return keys, chars, sorted(drawn.values())
