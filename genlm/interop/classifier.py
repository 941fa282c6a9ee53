"""A CLASSIFIER OPENED: texts -> probabilities of classes, from a run's directory alone.

  classifier.json   how long a part of a text it reads, and which (data.reading)
Before: stages.classify. After: genlm classify, and what the stage says of itself.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

import jax
import numpy as np

from genlm.data.reading import Reading
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.model import heads
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.runs import directory
from genlm.tokenizer.base import Tokenizer

NAME = "classifier.json"
_TOKENS = 8192  # of a batch
_SHORTEST = 16  # tokens of a row; longer ones are of powers of two


class Classifier(NamedTuple):
    """A trained model with its head, and how it reads."""

    params: Any  # {"model", "head"}
    config: TransformerConfig
    tokenizer: Tokenizer
    head: HeadConfig
    reading: Reading
    step: int

    @property
    def labels(self) -> tuple[str, ...]:
        return self.head.labels

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, classes] float32."""
        ids = [self.reading.ids(self.tokenizer, text)[0] for text in texts]
        found = np.empty((len(ids), len(self.labels)), np.float32)
        for numbers, rows in self.logprobs(ids):
            found[numbers] = np.exp(rows)
        return found

    def logprobs(
        self, documents: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(numbers, log-probabilities [numbers, classes]) of ids that end with STOP, in
        batches of like length."""
        for T, numbers in by_length([len(ids) for ids in documents]):
            batch = padded([documents[n] for n in numbers], T)
            last = [len(documents[n]) - 1 for n in numbers]
            logprobs_BTC = _logprobs(self.params, batch, self.config, self.head)
            yield numbers, np.asarray(logprobs_BTC)[np.arange(len(last)), last]


def save(workdir: Path, reading: Reading) -> None:
    """Write workdir/classifier.json."""
    directory.write_json(workdir / NAME, dataclasses.asdict(reading))


def open_classifier(path: Path, which: str = "last") -> Classifier:
    """The classifier of a run directory; `which` as of `interop.run.open_run`.

    Raises:
      UserError: it is none, or is damaged.
    """
    opened, head, of_head = interop.open_head(path, which)
    file = interop.find(path) / NAME
    if not file.exists():
        raise UserError(f"{path} is no classifier: it has no {NAME}")
    try:
        reading = Reading(**directory.read_json(file))
    except (TypeError, UserError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    params = {"model": opened.params, "head": of_head}
    own = opened.config.without_chance, opened.tokenizer
    return Classifier(params, *own, head, reading, opened.step)


@functools.partial(jax.jit, static_argnames=("config", "head"))
def _logprobs(params: Any, batch: Any, config: TransformerConfig, head: HeadConfig):
    return jax.nn.log_softmax(heads.outputs(params, batch, config, head))


def by_length(lengths: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(tokens of a row, the numbers of texts that are so long), the shortest first."""
    sizes = [max(_SHORTEST, 1 << (n - 1).bit_length()) for n in lengths]
    order = np.argsort(sizes, kind="stable")
    for T in sorted(set(sizes)):
        alike = order[np.asarray(sizes)[order] == T]
        rows = max(_TOKENS // T, 1)
        yield from ((T, alike[i : i + rows]) for i in range(0, len(alike), rows))


def padded(documents: Sequence[np.ndarray], T: int) -> dict[str, np.ndarray]:
    """Documents in rows of their own; the number of rows is a power of two, so that few
    shapes are compiled."""
    B = 1 << (len(documents) - 1).bit_length()
    tokens_BT = np.zeros((B, T), np.int32)
    segments_BT = np.zeros((B, T), np.int32)
    for row, ids in enumerate(documents):
        tokens_BT[row, : len(ids)] = ids
        segments_BT[row, : len(ids)] = 1
    positions_BT = np.arange(T, dtype=np.int32) * segments_BT
    return {"tokens": tokens_BT, "segments": segments_BT, "positions": positions_BT}
