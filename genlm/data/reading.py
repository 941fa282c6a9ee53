"""READING: a text as a classifier reads it: [BOS] text STOP, at most so many ids.

Before: a text and a tokenizer. After: prepared rows, where the number of the text's
class stands after STOP, and a trained classifier, which is asked at STOP.
"""

import dataclasses

import numpy as np

from genlm.errors import UserError
from genlm.tokenizer.base import Tokenizer

KEEP = ("beginning", "end")
_AROUND = 2  # ids that stand around a text at the most


@dataclasses.dataclass(frozen=True)
class Reading:
    """length: the most ids that are read of a text; keep: which part of a longer text
    these are, one of KEEP."""

    length: int
    keep: str

    def __post_init__(self) -> None:
        if self.length <= _AROUND:
            raise UserError(
                f"data.row_length {self.length} has no room for a text, which stands"
                f" between {_AROUND} more tokens"
            )
        if self.keep not in KEEP:
            raise UserError(f"data.keep {self.keep!r} is none of {KEEP}")

    def ids(self, tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, bool]:
        """(ids [length] int32 of BOS, if there is one, the text and STOP; whether a
        part of the text was left out)."""
        bos, stop = tokenizer.special.bos, tokenizer.special.stop
        before = [] if bos is None else [bos]
        room = self.length - len(before) - 1
        whole = tokenizer.encode(text.encode())
        part = whole[:room] if self.keep == "beginning" else whole[-room:]
        return np.asarray([*before, *part, stop], np.int32), len(whole) > room
