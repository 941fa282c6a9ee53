"""EMBEDDINGS: texts and words -> vectors of length 1, near where the meaning is.

Before: a model and texts. After: neighbours, stores, and the contrastive loss, which
pools alike. A text is read as `prompt_ids` gives it: BOS where the model has one, then
the text. What is pooled of the last hidden states:
  mean   the mean over the text's own tokens, BOS left out
  last   the state at a STOP that is put after the text (as arXiv:2401.00368), the only
         one that has seen all of it
"""

import dataclasses
import functools
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genlm.errors import UserError
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.tokenizer.base import Tokenizer, prompt_ids

POOLS = ("mean", "last")
SHORTEST = 16  # slots of a row; longer rows have a power of two
Report = Callable[[int], None]  # of how many texts are done


@dataclasses.dataclass(frozen=True)
class Pooling:
    """How a text becomes a vector."""

    pool: str = "mean"
    size: int = 0  # leading numbers of a vector that are kept; 0: all
    max_length: int = 512  # tokens; what a longer text has more is not read

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UserError(f"pool {self.pool!r} is not one of {', '.join(POOLS)}")
        if self.size < 0 or self.max_length < 2:
            raise UserError("size is below 0, or max_length below 2")

    def check(self, config: TransformerConfig) -> None:
        """Make sure that the model has such vectors.

        Raises:
          UserError: they are shorter, or texts longer than it reads.
        """
        if self.size > config.model_dim:
            raise UserError(
                f"size {self.size}: vectors have {config.model_dim} numbers"
            )
        if self.max_length > config.max_length:
            raise UserError(
                f"max_length {self.max_length}: the model reads {config.max_length}"
            )


class Rows(NamedTuple):
    """Ids of each text, of which the first `outside` (BOS) are not pooled, and how many
    texts were cut."""

    ids: list[list[int]]
    outside: list[int]
    num_cut: int


class Embedded(NamedTuple):
    """Vectors [n, size] float32 of length 1, and how many texts were cut."""

    vectors: np.ndarray
    num_cut: int


def silent(done: int) -> None:
    """A report to nobody."""


def embed(
    params: Any,
    config: TransformerConfig,
    tokenizer: Tokenizer,
    how: Pooling,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    report: Report = silent,
) -> Embedded:
    """A vector for each text. Texts of like length are read together, so that little is
    padding; a text's vector does not depend on the others, rounding aside.

    Raises:
      UserError: `how` does not fit the model.
    """
    how.check(config)
    rows = encode(tokenizer, texts, how)
    vectors = np.zeros((len(texts), how.size or config.model_dim), np.float32)
    done = 0
    for places in _batches([len(ids) for ids in rows.ids], batch_size):
        batch = padded(rows, places, tokenizer.special.pad, how.pool)
        found = _vectors(params, batch, config, how.size)
        vectors[places] = np.asarray(found)[: len(places)]
        done += len(places)
        report(done)
    return Embedded(vectors, rows.num_cut)


def encode(tokenizer: Tokenizer, texts: Sequence[str], how: Pooling) -> Rows:
    """What the model reads of each text, at most how.max_length tokens."""
    room = how.max_length - (how.pool == "last")
    stop = [tokenizer.special.stop] if how.pool == "last" else []
    has_bos = tokenizer.special.bos is not None
    all_ids = [prompt_ids(tokenizer, text) for text in texts]
    return Rows(
        [ids[:room] + stop for ids in all_ids],
        [int(has_bos and len(ids[:room] + stop) > 1) for ids in all_ids],
        sum(len(ids) > room for ids in all_ids),
    )


def padded(
    rows: Rows,
    places: Sequence[int] | np.ndarray,
    pad: int,
    pool: str,
    length: int = 0,
) -> dict[str, np.ndarray]:
    """The batch [B, T] of the rows at `places`: tokens, segments, positions, and the
    share of each state in what is pooled. T is `length`; where that is 0, T and B are
    powers of two, and rows past the last hold one PAD."""
    ids = [rows.ids[place] for place in places]
    outside = [rows.outside[place] for place in places]
    B, T = len(ids), length
    if not length:
        T = max(SHORTEST, _power(max(map(len, ids))))
        B = _power(B)
    tokens_BT = np.full((B, T), pad, np.int32)
    lengths_B1 = np.array([len(i) for i in ids] + [1] * (B - len(ids)))[:, None]
    for row, own in enumerate(ids):
        tokens_BT[row, : len(own)] = own
    first_B1 = np.array(outside + [0] * (B - len(ids)))[:, None]
    if pool == "last":
        first_B1 = lengths_B1 - 1
    slot_T = np.arange(T, dtype=np.int32)
    real_BT = slot_T < lengths_B1
    pooled_BT = (real_BT & (slot_T >= first_B1)).astype(np.float32)
    return {
        "tokens": tokens_BT,
        "segments": real_BT.astype(np.int32),
        "positions": np.where(real_BT, slot_T, 0).astype(np.int32),
        "pooled": pooled_BT / pooled_BT.sum(1, keepdims=True),
    }


def pooled_vectors(
    params: Any,
    batch: dict[str, jax.Array],
    config: TransformerConfig,
    key: jax.Array | None = None,
) -> jax.Array:
    """The pooled last states [B, D] of a batch of `padded`, in float32, of any length.

    The key is for dropout.
    """
    hidden_BTD, _, _ = transformer.apply(params, batch, config, key=key)
    return jnp.einsum("BT,BTD->BD", batch["pooled"], hidden_BTD.astype(jnp.float32))


def cut_to(vectors_BD: jax.Array, size: int) -> jax.Array:
    """The first `size` numbers of each vector (0: all), of length 1; 0 stays 0."""
    kept = vectors_BD[:, : size or None]
    squares = jnp.sum(jnp.square(kept), axis=-1, keepdims=True)
    return kept * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def word_vectors(
    embedding_VD: np.ndarray, tokenizer: Tokenizer, words: Sequence[str]
) -> np.ndarray:
    """The model's own embedding of each word [n, D], of length 1: the row of its token
    as it stands within a text, after a space; the mean where it has several."""
    rows = [tokenizer.encode(f" {word}".encode()) for word in words]
    means = np.stack([np.mean(embedding_VD[ids], 0, np.float32) for ids in rows])
    return unit(means)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., D] of length 1, in float32; 0 stays 0."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


@functools.partial(jax.jit, static_argnames=("config", "size"))
def _vectors(params, batch, config, size):
    return cut_to(pooled_vectors(params, batch, config), size)


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Places of the texts of each batch, longest first: if memory is short, then at
    once."""
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _power(number: int) -> int:
    """The lowest power of two that is not below it."""
    return 1 << (number - 1).bit_length()
