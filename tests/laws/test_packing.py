"""THE PACKING LAW: packed rows give the loss of the same documents unpacked, and every
token but BOS is a target exactly once.
"""

import functools
from pathlib import Path
import tempfile

from hypothesis import given
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from genlm.data import batches, rows, shards
from genlm.train import losses
from tests.laws.families import (
    adapted,
    alone,
    assert_agree,
    every_adapted,
    every_family,
    weights,
)
from tests.laws.written import PAD, Written, numbered, write

lengths_of_documents = st.lists(st.integers(2, 40), min_size=1, max_size=40)
row_lengths = st.integers(1, 17)


@functools.partial(jax.jit, static_argnames="config")
def _loss(params, batch, config):
    """Nats a trained token, and how many there are."""
    loss, sums = losses.make_next_token_loss(config)(params, None, batch, None)
    return loss / sums["weight"], sums["weight"]


@every_family
def test_packed_rows_give_the_loss_of_their_documents_alone(
    config, tmp_path, monkeypatch
):
    _require_the_same(weights(config), config, tmp_path, monkeypatch)


@every_adapted
def test_packing_with_changed_weights(name, tmp_path, monkeypatch):
    _require_the_same(*adapted(name), tmp_path, monkeypatch)


def _require_the_same(params, config, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 40)
    rng = np.random.default_rng(0)
    length = config.max_length
    documents = [
        rng.integers(1, config.vocab_size, n).tolist()
        for n in (2, 5, 17, 3, 9, 7, 4, 11, 6, 2, 13, 8)
    ]
    split = write(tmp_path, documents, length, config.vocab_size)
    assert len(split.tokens.shards) > 1 and len(split.rows) < len(documents)
    packed = _all_rows(split, batch_size=len(documents))

    loss, weight = _loss(params, packed, config)
    loss_alone, weight_alone = _loss(params, alone(documents, length), config)
    assert weight == weight_alone == sum(map(len, documents)) - len(documents)
    assert_agree(loss, loss_alone, config)


@given(lengths_of_documents, row_lengths)
def test_every_token_but_bos_is_a_target_exactly_once(lengths, row_length):
    documents = numbered(lengths)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", 50)
        split = write(Path(folder), documents, row_length, vocab_size=1 << 17)
        batch = _all_rows(split, batch_size=len(split.rows))
    trained = batch["weights"] == 1
    assert np.all(trained | (batch["weights"] == 0))
    expected = sorted(token for document in documents for token in document[1:])
    assert sorted(batch["targets"][trained]) == expected
    assert np.all(batch["targets"][trained] == batch["tokens"][trained] + 1)


@given(lengths_of_documents, row_lengths)
def test_a_row_shows_its_documents_apart_and_in_order(lengths, row_length):
    documents = numbered(lengths)
    document_of = {t: i for i, tokens in enumerate(documents) for t in tokens}
    with tempfile.TemporaryDirectory() as folder:
        split = write(Path(folder), documents, row_length, vocab_size=1 << 16)
        batch = _all_rows(split, batch_size=len(split.rows))
    for row in range(len(split.rows)):
        tokens, segments, positions = (
            batch[name][row] for name in ("tokens", "segments", "positions")
        )
        assert np.all(tokens[segments == 0] == PAD)
        assert np.all(np.diff(segments[segments > 0]) >= 0)
        for segment in set(segments[segments > 0]):
            mine = segments == segment
            assert len({document_of[t] for t in tokens[mine]}) == 1
            assert positions[mine].tolist() == list(range(mine.sum()))


@given(lengths_of_documents, row_lengths)
def test_rows_are_full_but_not_too_full_and_cut_only_what_must_be(lengths, row_length):
    starts = np.cumsum([0, *lengths[:-1]])
    documents = np.stack([np.zeros(len(lengths), np.int64), starts, lengths], axis=1)
    index = rows.index(documents, row_length)
    slots = row_length + 1
    filled = [
        index.pieces[a:b, 2].sum() for a, b in zip(index.starts[:-1], index.starts[1:])
    ]
    assert min(filled) > 0 and max(filled) <= slots
    assert sum(used <= slots // 2 for used in filled) <= 1  # those two would be one
    pieces = {tuple(piece) for piece in index.pieces.tolist()}
    assert len(pieces) == len(index.pieces) and index.pieces[:, 2].min() >= 2
    for document in documents:
        if document[2] <= slots:
            assert tuple(document.tolist()) in pieces


def _all_rows(split: Written, batch_size: int) -> batches.Batch:
    """All rows of a split as one batch."""
    assert len(split.rows) <= batch_size
    (batch,) = batches.valid_batches(
        split.tokens, split.rows, batch_size=batch_size, pad=PAD
    )
    return batch
