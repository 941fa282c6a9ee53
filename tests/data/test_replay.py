"""Rows of two texts in one training: how many, in which order, and on which process."""

from pathlib import Path

import numpy as np
import pytest

from genlm.data import rows, shards
from genlm.data.batches import TrainBatches
from genlm.data.plan import Plan
from genlm.data.replay import Replayed, check_share
from genlm.errors import UserError

LENGTH = 8


def text(folder: Path, token: int, documents: int) -> TrainBatches:
    """Documents of one token each, a row each."""
    with shards.Writer(folder, 100) as writer:
        for _ in range(documents):
            writer.begin(1)
            writer.append(np.full(LENGTH - 1, token), LENGTH)
            writer.end(2)
        writer.close()
    tokens = shards.Tokens(folder)
    packed = rows.index(tokens.documents, LENGTH)
    assert len(packed) == documents
    return TrainBatches(tokens, packed, Plan(8), seed=3, pad=0)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> tuple[TrainBatches, TrainBatches]:
    folder = tmp_path_factory.mktemp("texts")
    return text(folder / "main", 10, 50), text(folder / "other", 20, 30)


@pytest.mark.parametrize("share", [0.25, 0.1, 0.5, 0.9])
def test_the_share_holds_at_every_step(texts, share: float):
    mixed = Replayed(*texts, Plan(8), share)
    others = 0
    for step in range(40):
        batch = mixed[step]
        assert batch["tokens"].shape == (8, LENGTH)
        others += int((batch["tokens"][:, 1] == 20).sum())
        assert others == int(8 * (step + 1) * share)
    again = Replayed(*texts, Plan(8), share)[17]["tokens"]
    assert np.array_equal(again, mixed[17]["tokens"])


def test_processes_read_their_parts_of_the_same_rows(texts):
    whole = Replayed(*texts, Plan(8), 0.3)[11]
    parts = [
        Replayed(*texts, Plan(8), 0.3, process=i, num_processes=4)[11] for i in range(4)
    ]
    for name, x in whole.items():
        assert np.array_equal(np.concatenate([part[name] for part in parts]), x)


def test_the_main_text_is_read_in_the_order_it_has_alone(texts):
    """Every row of an epoch once, whatever stands between."""
    main, other = texts
    mixed = Replayed(main, other, Plan(8), 0.25)
    alone = np.concatenate([main[step]["tokens"] for step in range(6)])
    with_others = np.concatenate([mixed[step]["tokens"] for step in range(8)])
    assert np.array_equal(with_others[with_others[:, 1] == 10], alone)


@pytest.mark.parametrize("share, other", [(0.5, ""), (0.0, "x"), (1.0, "x")])
def test_a_share_goes_with_a_text(share: float, other: str):
    with pytest.raises(UserError, match="data.replay_share is in"):
        check_share(share, other)
