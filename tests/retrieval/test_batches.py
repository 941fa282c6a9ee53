"""Batches of pairs: functions of (seed, step), and which passages stand in them."""

import numpy as np

from genlm.data.pairs import Pairs
from genlm.data.plan import Plan
from genlm.retrieval import batches
from genlm.retrieval.batches import Lengths, PairBatches
from tests.retrieval.tiny import TOKENIZER

PAIRS = Pairs(
    [f"query {n}" for n in range(10)],
    np.arange(10) // 2,
    [f"the passage of number {n}" for n in range(5)],
)
HARD = (PAIRS.own[:, None] + [1, 2]) % 5


def reader(**changes) -> PairBatches:
    usual = {"plan": Plan(4), "seed": 0, "pool": "mean", "lengths": Lengths(12, 16)}
    return PairBatches(PAIRS, HARD, TOKENIZER, **{**usual, **changes})


def texts(batch: dict, side: str) -> list[str]:
    """What the rows of a side say."""
    tokens = batch[f"{side}_tokens"]
    return [
        TOKENIZER.decode(row).decode() for row in tokens.reshape(-1, tokens.shape[-1])
    ]


def test_a_query_stands_beside_its_own_passage_and_its_hard_negatives():
    for step in range(5):
        batch = reader()[step]
        assert batch["query_tokens"].shape == (4, 12)
        assert batch["passage_tokens"].shape == (4, 3, 16)
        assert batch["weights"].shape == (4, 1) and batch["weights"].all()
        for query, ids in zip(texts(batch, "query"), batch["passage_ids"]):
            number = int(query.split()[1])
            assert ids.tolist() == [PAIRS.own[number], *HARD[number]]
        said = [PAIRS.passages[i][:15] for i in batch["passage_ids"].ravel()]
        assert texts(batch, "passage") == said  # cut to 16 tokens with BOS
    assert reader().num_cut == (0, 5)


def test_every_pair_stands_once_in_an_epoch_and_epochs_differ():
    one = reader(plan=Plan(5))
    epochs = [texts(one[n], "query") + texts(one[n + 1], "query") for n in (0, 2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(PAIRS.queries)
    assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_seed_and_step_alone():
    since = reader().since(3)
    for name, x in next(since).items():
        np.testing.assert_array_equal(x, reader()[3][name])
    assert texts(reader(seed=1)[3], "query") != texts(reader()[3], "query")


def test_processes_read_parts_of_one_batch():
    parts = [reader(process=i, num_processes=2)[1] for i in range(2)]
    for name, x in reader()[1].items():
        np.testing.assert_array_equal(x, np.concatenate([p[name] for p in parts]))


def test_hard_negatives_are_the_nearest_that_are_not_ones_own():
    passages = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]])
    queries = np.array([[1, 0], [1, 0.01], [0.1, 1]])
    found = batches.mined(queries, passages, np.array([0, 1, 2]), 2)
    assert found.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert batches.mined(queries, passages, np.array([0, 1, 2]), 0).shape == (3, 0)
