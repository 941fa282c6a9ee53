"""The contrastive loss: by hand, on several devices, and at several sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.retrieval import contrastive, embed
from genlm.retrieval.embed import Pooling
from tests.retrieval import tiny
from tests.retrieval.tiny import MODEL, TOKENIZER

QUERIES = [f"what is number {n}?" for n in range(8)]
PARAMS = tiny.params()
PASSAGES = [f"{n} is the number after {n - 1}, and before {n + 1}" for n in range(16)]


def batch(ids: np.ndarray) -> dict[str, np.ndarray]:
    """Queries and, for each, the passages that a row of ids [B, P] names."""
    made = {"passage_ids": ids, "weights": np.ones((len(ids), 1), np.float32)}
    for side, texts in (
        ("query", QUERIES[: len(ids)]),
        ("passage", [PASSAGES[i] for i in ids.ravel()]),
    ):
        rows = embed.encode(TOKENIZER, texts, Pooling(max_length=48))
        pad = TOKENIZER.special.pad
        arrays = embed.padded(rows, range(len(texts)), pad, "mean", length=48)
        shape = ids.shape if side == "passage" else ids.shape[:1]
        for name, x in arrays.items():
            made[f"{side}_{name}"] = x.reshape(*shape, 48)
    return made


def loss(arrays, sizes=(0,), temperature=0.1):
    function = contrastive.make_contrastive_loss(MODEL, temperature, sizes)
    return jax.jit(function)(PARAMS, None, arrays, None)


def by_hand(ids: np.ndarray, size: int, temperature: float = 0.1) -> float:
    """The sum over queries, one at a time, with Python's own loops."""

    def vectors(texts):
        how = Pooling(size=size, max_length=48)
        return embed.embed(PARAMS, MODEL, TOKENIZER, how, texts).vectors

    queries, passages = vectors(QUERIES[: len(ids)]), vectors(PASSAGES)
    total = 0.0
    for query, row in zip(queries, ids):
        own = np.exp(query @ passages[row[0]] / temperature)
        negatives = [i for i in ids.ravel() if i != row[0]]
        rest = sum(np.exp(query @ passages[i] / temperature) for i in negatives)
        total -= np.log(own / (own + rest))
    return total


def test_scores_by_hand():
    scores = jnp.log(jnp.array([[4.0, 2.0, 2.0], [1.0, 3.0, 6.0], [1.0, 1.0, 1.0]]))
    is_other = ~jnp.eye(3, dtype=bool)
    loss_B, correct_B = contrastive.info_nce(scores, is_other)
    np.testing.assert_allclose(loss_B, np.log([2, 10 / 3, 3]), atol=1e-6)
    assert correct_B.tolist() == [True, False, False]  # a tie is no win
    # the first and the third passage are the same one
    is_other = contrastive.others(jnp.array([[7], [5], [7]]))
    loss_B, correct_B = contrastive.info_nce(scores, is_other)
    np.testing.assert_allclose(loss_B, np.log([6 / 4, 10 / 3, 2]), atol=1e-6)


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(6)[:, None],
        np.array([[0], [1], [0], [0]]),  # a passage of several queries
        np.array([[0, 9, 1], [1, 8, 8], [2, 0, 10]]),  # with hard negatives
    ],
    ids=["in the batch", "the same passage", "hard"],
)
def test_the_loss_is_that_of_plain_loops(ids: np.ndarray):
    total, sums = loss(batch(ids))
    assert float(total) == pytest.approx(by_hand(ids, 0), rel=1e-5)
    assert float(sums["weight"]) == len(ids)


@pytest.mark.slow
def test_several_sizes_count_alike():
    ids = np.arange(6)[:, None]
    total, _ = loss(batch(ids), sizes=(32, 8, 4))
    parts = [by_hand(ids, size) for size in (32, 8, 4)]
    assert float(total) == pytest.approx(np.mean(parts), rel=1e-5)
    assert len({round(part, 3) for part in parts}) == 3


@pytest.mark.slow
def test_the_negatives_are_those_of_all_devices():
    """Loss and gradient on eight devices, each of which holds two of the queries, are
    those on one."""
    arrays = batch(np.arange(16).reshape(8, 2))

    def value_and_gradient(mesh):
        function = contrastive.make_contrastive_loss(MODEL, 0.1, (32, 8))
        with sharding.laid_out(mesh):
            placed = sharding.global_batch(arrays, mesh)
            run = jax.jit(jax.value_and_grad(function, has_aux=True))
            (total, _), gradient = run(PARAMS, None, placed, None)
        return float(total), jax.device_get(gradient)

    one = meshes.make(meshes.MeshConfig(data=1), jax.devices()[:1])
    sizes = meshes.MeshConfig(data=2, fsdp=2, tensor=2)
    eight = meshes.make(sizes, jax.devices()[:8])
    expected, gradient = value_and_gradient(one)
    total, same = value_and_gradient(eight)
    assert total == pytest.approx(expected, rel=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(same)):
        assert tiny.distance(a, b) < 1e-4 * max(1, np.abs(a).max())
    # a loss of each device's own pairs alone would be another
    alone = {n: x[:1] for n, x in arrays.items()}
    assert 8 * float(loss(alone, (32, 8))[0]) < expected - 1
