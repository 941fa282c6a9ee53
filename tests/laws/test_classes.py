"""THE LAWS OF A CLASSIFIER: packed rows say of a text what it is given alone; the class
that is written after a text is seen by nothing that counts; a low-rank change begins at
its base; one loss curve on any mesh.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.data import batches, rows, shards
from genlm.data.reading import Reading
from genlm.interop.classifier import Classifier
from genlm.model import heads, lora, transformer
from genlm.model.config import TransformerConfig
from genlm.model.heads import POOLS, HeadConfig
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.tokenizer.byte import ByteTokenizer
from genlm.train import class_loss, losses, optimizer, state, step
from tests.laws.families import BASE, FAMILIES, LORA, learnt, weights

LABELS = ("a", "b", "c")
LENGTH = 16
STEPS = 5
LENGTHS = (3, 5, 16, 2, 9, 7, 4, 11, 6, 2, 13, 8, 3, 12, 10, 5)  # STOP counted


def _documents() -> list[tuple[list[int], int]]:
    """(ids, class) of texts."""
    rng = np.random.default_rng(0)
    return [
        (rng.integers(3, BASE.vocab_size, n).tolist(), int(rng.integers(3)))
        for n in LENGTHS
    ]


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> batches.Batch:
    """All of them in rows, as prepare_labelled writes them."""
    folder = tmp_path_factory.mktemp("classes")
    with shards.Writer(folder, BASE.vocab_size, weighted=True) as writer:
        for ids, label in _documents():
            document = np.asarray([*ids, label])
            writer.add(document, np.arange(len(document)) == len(ids), 1)
        writer.close()
    tokens = shards.Tokens(folder)
    index = rows.index(tokens.documents, LENGTH)
    assert len(index) < len(LENGTHS)
    return batches.gather(tokens, index, np.arange(8 * -(-len(index) // 8)), pad=0)


def _params(config: TransformerConfig) -> Any:
    rng = np.random.default_rng(1)
    specs = heads.head_specs(config, HeadConfig(LABELS, "mean"))
    draw = lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32)  # noqa
    return {"model": weights(config), "head": jax.tree.map(draw, specs)}


@functools.partial(jax.jit, static_argnums=(2, 3))
def _outputs(params, batch, config, head):
    return heads.outputs(params, batch, config, head)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("family", ["mha_swiglu_tied", "gpt2"])
def test_packed_rows_say_what_each_text_alone_does(family, pool, packed):
    config, head = FAMILIES[family], HeadConfig(LABELS, pool)
    params = _params(config)
    found_BTC = np.asarray(_outputs(params, packed, config, head))
    is_stop_BT = packed["weights"] > 0
    by_class = {}
    for row, slot in zip(*np.nonzero(is_stop_BT)):
        own = packed["segments"][row, : slot + 1] == packed["segments"][row, slot]
        ids = tuple(packed["tokens"][row, : slot + 1][own].tolist())
        by_class[ids] = found_BTC[row, slot], packed["targets"][row, slot]
    documents = _documents()
    assert len(by_class) == len(documents)
    alone = Classifier(
        params, config, ByteTokenizer(), head, Reading(LENGTH, "end"), 0
    ).logprobs([np.asarray(ids) for ids, _ in documents])
    for numbers, logprobs in alone:
        for number, row in zip(numbers, logprobs):
            ids, label = documents[number]
            outputs, target = by_class[tuple(ids)]
            assert target == label
            assert np.allclose(row, jax.nn.log_softmax(outputs), atol=1e-4)


@pytest.mark.parametrize("pool", POOLS)
def test_the_class_after_a_text_is_seen_by_nothing_that_counts(pool, packed):
    head, params = HeadConfig(LABELS, pool), _params(BASE)
    is_stop_BT = packed["weights"] > 0
    is_class_BT = np.roll(is_stop_BT, 1, axis=1)
    is_class_BT[:, 0] = False
    assert is_class_BT.sum() > len(LENGTHS) // 2  # the others end their rows
    other = np.where(is_class_BT, (packed["tokens"] + 1) % 3, packed["tokens"])
    assert np.all((other != packed["tokens"]) == is_class_BT)
    was, now = (
        np.asarray(_outputs(params, {**packed, "tokens": tokens}, BASE, head))
        for tokens in (packed["tokens"], other)
    )
    assert np.array_equal(was[is_stop_BT], now[is_stop_BT])
    assert not np.array_equal(was, now)


@pytest.mark.parametrize("pool", POOLS)
def test_a_change_begins_at_its_base(pool, packed):
    head, params = HeadConfig(LABELS, pool), _params(BASE)
    specs = transformer.param_specs(BASE)
    first = lora.initial(params["model"], specs, LORA, jax.random.key(0))
    for change, is_same in ((first, True), (learnt(params["model"], specs, LORA), 0)):
        changed = {**params, "model": lora.adapted(params["model"], change, LORA)}
        found = [_outputs(p, packed, BASE, head) for p in (params, changed)]
        assert np.allclose(*found, atol=1e-5) == is_same


def test_weights_of_classes_by_hand():
    assert class_loss.class_weights([6, 1, 2], "none").tolist() == [1, 1, 1]
    even = class_loss.class_weights([6, 1, 2], "balanced")
    assert np.allclose(even, [9 / 18, 9 / 3, 9 / 6])
    assert np.isclose(np.dot(even, [6, 1, 2]), 9)  # 1 on average


def test_the_loss_is_the_weighted_sum_over_texts(packed):
    head, params = HeadConfig(LABELS, "mean"), _params(BASE)
    weights_C = np.asarray([0.5, 3.0, 1.5], np.float32)
    loss = class_loss.make_class_loss(BASE, head, weights_C)
    total, sums = jax.jit(loss)(params, None, packed, None)
    outputs = np.asarray(_outputs(params, packed, BASE, head), np.float64)
    expected = 0.0
    for row, slot in zip(*np.nonzero(packed["weights"])):
        scores, label = outputs[row, slot], packed["targets"][row, slot]
        nats = np.log(np.exp(scores - scores[label]).sum())
        expected += weights_C[label] * nats
    assert np.isclose(total, expected, rtol=1e-5) and total == sums["loss"]
    assert sums["weight"] == len(LENGTHS)


def _curve(packed: batches.Batch, devices: int, sizes: dict, microbatches: int):
    """The loss of each step."""
    head = HeadConfig(LABELS, "mean")
    config = optimizer.OptimizerConfig(learning_rate=1e-3, warmup_steps=2)
    mesh = meshes.make(
        meshes.MeshConfig(**{"data": 1, **sizes}), jax.devices()[:devices]
    )
    model = dataclasses.replace(BASE, num_layers=1)
    specs = {
        "model": transformer.param_specs(model),
        "head": heads.head_specs(model, head),
    }
    made = optimizer.make_optimizer(config, STEPS, specs)
    loss: losses.Loss = class_loss.make_class_loss(model, head, np.ones(3, np.float32))
    with sharding.laid_out(mesh):
        now = state.born_sharded(specs, made, mesh, seed=0)
        train_step = jax.jit(
            step.make_train_step(
                loss,
                made,
                optimizer.make_schedule(config, STEPS),
                num_microbatches=microbatches,
            ),
            out_shardings=(
                state.shardings(specs, made, mesh),
                sharding.replicated(mesh),
            ),
        )
        curve = []
        for _ in range(STEPS):
            batch = sharding.global_batch(packed, mesh)
            now, found = train_step(now, batch, None)
            curve.append(float(found["loss"]))
    return curve


@pytest.mark.slow
@pytest.mark.parametrize(
    "devices, sizes, microbatches",
    [
        (8, {"data": 2, "fsdp": 2, "tensor": 2}, 2),
        pytest.param(8, {"data": 8}, 1, marks=pytest.mark.slow),
        pytest.param(4, {"context": 4}, 1, marks=pytest.mark.slow),
    ],
)
def test_one_curve_on_any_mesh(packed, devices, sizes, microbatches):
    alone = _curve(packed, 1, {}, 1)
    assert alone[0] == pytest.approx(np.log(3)) and alone[-1] < alone[0]
    assert np.allclose(_curve(packed, devices, sizes, microbatches), alone, rtol=1e-5)
