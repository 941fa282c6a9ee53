"""LIKELIHOOD: spans of ids -> the log-probability of each scored id.

Before: spans. After: choices, last words, texts. Many spans stand in one row, each a
segment of its own, so that a whole task is of one compiled shape with little padding.
Only the hidden states of scored ids meet the vocabulary, some at a time.
"""

import dataclasses
import functools
from typing import Any, Callable, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genlm.data.rows import best_fit
from genlm.evaluate import spans
from genlm.evaluate.spans import Span
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.runs.progress import Bar
from genlm.tokenizer.base import Tokenizer

_TOKENS = 2048  # of a batch
_SHORTEST = 128  # row; a TPU's attention wants a multiple
_AT_ONCE = 256  # scored ids whose logits are in memory together


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model to measure, and how a batch, of a multiple of `ways` rows, gets to its
    devices."""

    params: Any
    config: TransformerConfig
    tokenizer: Tokenizer
    place: Callable[[Any], Any] = lambda batch: batch
    ways: int = 1

    def __post_init__(self) -> None:
        if self.config.expert_dispatch == "capacity":  # neighbours may take its place
            whole = dataclasses.replace(self.config, expert_dispatch="grouped")
            object.__setattr__(self, "config", whole)


class Scored(NamedTuple):
    """Of each scored id of a span: its log-probability; whether none is likelier."""

    logprobs: np.ndarray
    is_likeliest: np.ndarray

    @property
    def total(self) -> float:
        return float(np.sum(self.logprobs, dtype=np.float64))


class _Read(NamedTuple):
    """A piece of a span: all ids but the last are read, the last `num` scored, and
    where those stand among all that are scored."""

    ids: list[int]
    num: int
    place: int


def score(candidate: Candidate, asked: Sequence[Span], title: str) -> list[Scored]:
    """What the model says of each span, with progress shown under `title`.

    A span longer than the model's rows is read in pieces, see `spans.pieces`.
    """
    reads, ends = [], [0]
    for span in asked:
        total = ends[-1]
        for piece in spans.pieces(span, candidate.config.max_length):
            ids = span.ids[piece.start : piece.end]
            reads.append(_Read(ids, piece.num, total))
            total += piece.num
        ends.append(total)
    logprobs, likeliest = np.zeros(ends[-1], np.float32), np.zeros(ends[-1], bool)
    _fill(candidate, reads, logprobs, likeliest, title)
    return [
        Scored(logprobs[start:end], likeliest[start:end])
        for start, end in zip(ends, ends[1:])
    ]


def _fill(
    candidate: Candidate,
    reads: Sequence[_Read],
    logprobs: np.ndarray,
    likeliest: np.ndarray,
    title: str,
) -> None:
    """Write what the model says of each piece in its place."""
    rows, length = _packed(reads)
    per_batch = min(max(_TOKENS // length, 1), _power_of_two(len(rows)))
    per_batch = -(-per_batch // candidate.ways) * candidate.ways
    batches = [rows[i : i + per_batch] for i in range(0, len(rows), per_batch)]
    most = max((sum(r.num for row in b for r in row) for b in batches), default=0)
    slots, done = _AT_ONCE * _power_of_two(-(-most // _AT_ONCE)), 0
    with Bar(title, sum(len(read.ids) for read in reads), unit="tokens") as bar:
        for batch in batches:
            arrays = _arrays(
                batch, (per_batch, length), slots, candidate.tokenizer.special.pad
            )
            inputs, at_P, targets_P, places = arrays
            inputs = candidate.place(inputs)
            said = _score(candidate.params, inputs, at_P, targets_P, candidate.config)
            for found, all_of_it in zip(jax.device_get(said), (logprobs, likeliest)):
                all_of_it[places] = found[: len(places)]
            done += sum(len(read.ids) for row in batch for read in row)
            bar.update(done)


def _packed(reads: Sequence[_Read]) -> tuple[list[list[_Read]], int]:
    """Rows of pieces, and the rows' length: a power of two."""
    order = sorted(reads, key=lambda read: -len(read.ids))
    lengths = np.asarray([len(read.ids) - 1 for read in order], np.int64)
    length = max(_SHORTEST, _power_of_two(int(lengths.max(initial=1))))
    rows: dict[int, list[_Read]] = {}
    for row, read in zip(best_fit(lengths, length).tolist(), order):
        rows.setdefault(row, []).append(read)
    return [rows[row] for row in sorted(rows)], length


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _arrays(
    batch: Sequence[Sequence[_Read]], shape: tuple[int, int], slots: int, pad: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """tokens, segments and positions [B, T] of some rows; where in them, counted
    through, stands what each scored id is told from [P]; those ids [P]; and their
    places among all."""
    tokens_BT = np.full(shape, pad, np.int32)
    segments_BT, positions_BT = np.zeros((2, *shape), np.int32)
    at, targets, places = [], [], []
    for b, row in enumerate(batch):
        start = 0
        for number, read in enumerate(row, 1):
            end = start + len(read.ids) - 1
            tokens_BT[b, start:end] = read.ids[:-1]
            segments_BT[b, start:end] = number
            positions_BT[b, start:end] = np.arange(end - start)
            at.append(b * shape[1] + np.arange(end - read.num, end))
            targets.append(read.ids[-read.num :])
            places.append(read.place + np.arange(read.num))
            start = end
    at_P, targets_P = np.zeros((2, slots), np.int32)
    where = np.concatenate(places)
    at_P[: len(where)] = np.concatenate(at)
    targets_P[: len(where)] = np.concatenate(targets)
    inputs = {"tokens": tokens_BT, "segments": segments_BT, "positions": positions_BT}
    return inputs, at_P, targets_P, where


@functools.partial(jax.jit, static_argnames="config")
def _score(params, batch, at_P, targets_P, config):
    """(log-probability [P], whether it is the highest [P]) of each target."""
    hidden_BTD, _, _ = transformer.apply(params, batch, config)
    hidden_PD = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])[at_P]

    def of_some(some):
        hidden_pD, targets_p = some
        logits_pV = transformer.unembed(params, hidden_pD, config)
        logprobs_pV = jax.nn.log_softmax(logits_pV, axis=-1)
        picked_p = jnp.take_along_axis(logprobs_pV, targets_p[:, None], axis=-1)[:, 0]
        return picked_p, jnp.argmax(logits_pV, axis=-1) == targets_p

    parts = hidden_PD.reshape(-1, _AT_ONCE, hidden_PD.shape[-1])
    found = jax.lax.map(of_some, (parts, targets_P.reshape(-1, _AT_ONCE)))
    return jax.tree.map(jnp.ravel, found)
