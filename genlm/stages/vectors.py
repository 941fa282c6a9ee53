"""VECTORS: a run opened as what embeds texts, as it was trained to.

Before: a run of any stage that makes a model; one of `embed` says in embed.json how it
pools. After: `genlm embed`, and whatever looks for passages.
"""

import dataclasses
from pathlib import Path
import re
import sys
from typing import Any, NamedTuple, Sequence

import numpy as np

from genlm.errors import UserError
from genlm.interop.run import find, open_run, read_config
from genlm.model.config import TransformerConfig
from genlm.retrieval import embed
from genlm.retrieval.embed import Pooling
from genlm.runs import directory
from genlm.runs.progress import Bar
from genlm.tokenizer.base import Tokenizer

NAME = "embed.json"
_WORD = re.compile(rb" [A-Za-z]+")


class Embedder(NamedTuple):
    """A model, and how its states become vectors."""

    params: Any
    config: TransformerConfig
    tokenizer: Tokenizer
    how: Pooling

    def vectors(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Vectors [n, size] of length 1; texts that are cut are counted and told."""
        with Bar("embed", len(texts), unit="texts") as bar:
            found = embed.embed(*self, texts, batch_size=batch_size, report=bar.update)
        if found.num_cut:
            print(
                f"{found.num_cut} of {len(texts)} texts are cut to"
                f" {self.how.max_length} tokens",
                file=sys.stderr,
                flush=True,
            )
        return found.vectors

    def words(self, words: Sequence[str]) -> np.ndarray:
        """The model's own embedding [n, D] of each word."""
        table = np.asarray(self.params["embedding"])
        return embed.word_vectors(table, self.tokenizer, words)

    def vocabulary(self) -> list[str]:
        """Words that are one token where they stand within a text.

        Raises:
          UserError: the model reads no such tokens.
        """
        spelled = (self.tokenizer.decode([i]) for i in range(self.config.vocab_size))
        found = [t[1:].decode() for t in spelled if _WORD.fullmatch(t)]
        if not found:
            raise UserError("the model reads no words as one token: give --corpus FILE")
        return list(dict.fromkeys(found))


def open_embedder(path: Path, which: str = "last", **changes: Any) -> Embedder:
    """The embedder of a run directory.

    Args:
      which: checkpoint, as of `open_run`.
      changes: of `Pooling`, against what the run was trained with.

    Raises:
      UserError: as `open_run`, or the model has no such vectors.
    """
    workdir = find(path)
    shape = read_config(workdir)
    how = dataclasses.replace(_pooling(workdir, shape), **changes)
    how.check(shape)
    params, config, tokenizer, _ = open_run(workdir, which)
    return Embedder(params, config, tokenizer, how)


def save(workdir: Path, how: Pooling) -> None:
    """Write workdir/embed.json."""
    directory.write_json(workdir / NAME, dataclasses.asdict(how))


def _pooling(workdir: Path, config: TransformerConfig) -> Pooling:
    """How a run was trained to pool; the usual way where it was not."""
    path = workdir / NAME
    if not path.exists():
        return Pooling(max_length=min(Pooling.max_length, config.max_length))
    try:
        return Pooling(**directory.read_json(path))
    except (TypeError, UserError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
