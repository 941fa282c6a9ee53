"""Documents as shards on disk, opened again: what the laws of the data read."""

from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from genlm.data import rows, shards
from genlm.data.rows import Rows
from genlm.data.shards import Tokens

PAD = 0


class Written(NamedTuple):
    """A split: its tokens and its row index."""

    tokens: Tokens
    rows: Rows


def write(
    folder: Path, documents: Sequence[Sequence[int]], row_length: int, vocab_size: int
) -> Written:
    """Write `documents` (BOS first, STOP last) as shards and a row index; open them."""
    with shards.Writer(folder, vocab_size) as writer:
        for bos, *ids, stop in documents:
            writer.begin(bos)
            writer.append(np.asarray(ids, np.int64), len(ids))
            writer.end(stop)
        writer.close()
    tokens = Tokens(folder)
    rows.save(rows.index(tokens.documents, row_length), folder)
    return Written(tokens, rows.load(folder))


def numbered(lengths: Sequence[int]) -> list[list[int]]:
    """Documents of `lengths` in which no token comes twice: 1, 2, 3, ... throughout."""
    ends = np.cumsum(lengths) + 1
    return [list(range(end - n, end)) for end, n in zip(ends, lengths)]
