"""SPECIAL TOKENS: the ids that no text can spell.

PAD fills the end of a row and is never trained on; BOS opens a document; STOP closes
it and ends generation. PAD is not STOP: a model trained with the two as one either
never stops or always does.

A model from elsewhere may have no BOS, and several tokens that end an answer: the end
of a text and the end of a turn. It may also have no PAD of its own. Then another id
stands in (see genlm.tokenizer.huggingface), even one that spells something: what is PAD
in a row is told by its segment, 0, and never by its id.
"""

from typing import NamedTuple


class Special(NamedTuple):
    """Ids of the control tokens of one tokenizer."""

    pad: int
    bos: int | None  # None: a document has nothing before its text
    stop: int  # written after every document
    stops: tuple[int, ...] = ()  # what ends an answer besides

    @property
    def all_stops(self) -> tuple[int, ...]:
        """Every id that ends an answer; `stop` is the first."""
        return (self.stop, *(i for i in self.stops if i != self.stop))
