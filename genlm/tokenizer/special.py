"""SPECIAL TOKENS: the ids that no text can spell.

PAD fills the end of a row and is never trained on; BOS opens a document; STOP closes
it and ends generation. PAD is not STOP: a model trained with the two as one either
never stops or always does.
"""

from typing import NamedTuple


class Special(NamedTuple):
    """Ids of the control tokens of one tokenizer."""

    pad: int
    bos: int
    stop: int
