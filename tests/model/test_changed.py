"""A change beside its matrix: what it computes, learns, drops and costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import layers, lora, quantized, transformer
from genlm.model.changed import Changed
from genlm.parallel import specs
from genlm.train import losses
from tests.laws import families
from tests.laws.families import FAMILIES, LORA, RARE, SCAN

KINDS = {
    "lora": LORA,
    "rslora": dataclasses.replace(LORA, rank_stabilised=True, targets=("*/[qod]*",)),
    "dora": dataclasses.replace(LORA, dora=True),
}
BATCH = families.alone([np.arange(14), np.arange(20, 29)], 14)
OFTEN = {"scan": "rslora", "gemma2": "dora"}


def hidden_of(params, config):
    return np.asarray(families.hidden(params, families.inputs(BATCH), config))


@pytest.mark.parametrize(
    "name, kind",
    [
        pytest.param(name, kind, marks=[pytest.mark.slow] * (OFTEN.get(name) != kind))
        for name in FAMILIES
        if name not in RARE and FAMILIES[name].dtype == "float32"
        for kind in KINDS
    ],
)
def test_beside_a_matrix_or_merged_into_it(name: str, kind: str):
    """And a fresh change is the base, to the bit where nothing is divided by a length.
    Logits are of the size of 10."""
    config, change = FAMILIES[name], KINDS[kind]
    params, tree = families.weights(config), transformer.param_specs(config)
    before = hidden_of(params, config)
    fresh = lora.initial(params, tree, change, jax.random.key(0))
    at_first = hidden_of(lora.adapted(params, fresh, change), config)
    np.testing.assert_allclose(at_first, before, atol=1e-5 if change.dora else 0)
    learnt = families.learnt(params, tree, change)
    beside = hidden_of(lora.adapted(params, learnt, change), config)
    merged = hidden_of(lora.merge(params, learnt, change), config)
    off = np.abs(beside - merged)
    # three layers of norms over heads make rounding larger in a few places
    assert np.quantile(off, 0.99) <= 1e-5 and off.max() <= 1e-4
    assert np.abs(beside - before).max() > 0.5


@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_beside_few_bits_or_merged_into_them(bits: int):
    config, change = FAMILIES["gqa"], KINDS["dora"]
    tree = transformer.param_specs(config)
    params = quantized.quantize(families.weights(config), tree, bits)
    learnt = families.learnt(params, tree, change)
    beside = hidden_of(lora.adapted(params, learnt, change), config)
    merged = hidden_of(lora.merge(params, learnt, change), config)
    assert np.abs(beside - merged).max() <= 1e-5


def one_matrix(**fields) -> tuple[jax.Array, Changed]:
    """x_BTI, and a changed w_IO of 5 x 7."""
    keys = iter(jax.random.split(jax.random.key(0), 4))
    x, w, a, b = (
        jax.random.normal(next(keys), shape)
        for shape in ((2, 300, 5), (5, 7), (5, 3), (3, 7))
    )
    made = {"m_O": None, "key": None, "scale": 0.5, "dropout": 0.0, **fields}
    return x, Changed(w, a, b, **made)


def test_columns_are_as_long_as_m_says():
    x, w = one_matrix(m_O=jnp.arange(1.0, 8.0))
    rows = layers.dense(jnp.eye(5), w, "float32")
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=0), w.m_O, rtol=1e-5)
    plain = w.w + 0.5 * w.a_Ir @ w.b_rO
    cosine = jnp.sum(plain * rows, axis=0) / jnp.linalg.norm(plain, axis=0) / w.m_O
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-5)


def test_lengths_are_constants_to_gradients():
    """As if the gain were a number (section 4.3 of the paper)."""
    x, w = one_matrix(m_O=jnp.arange(1.0, 8.0))

    def loss(w, gain_O=None):
        if gain_O is None:
            return jnp.sum(layers.dense(x, w, "float32") ** 2)
        y = x @ w.w + 0.5 * (x @ w.a_Ir) @ w.b_rO
        return jnp.sum((y * gain_O) ** 2)

    plain = w.w + 0.5 * w.a_Ir @ w.b_rO
    theirs = jax.grad(loss)(w, w.m_O / jnp.linalg.norm(plain, axis=0))
    ours = jax.grad(loss)(w)
    for name in ("a_Ir", "b_rO"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-3, atol=1e-3
        )


def test_dropout_is_of_what_a_reads_alone():
    x, plain = one_matrix()
    _, w = one_matrix(dropout=0.25, key=jax.random.PRNGKey(3))
    added = layers.dense(x, w, "float32") - x @ w.w
    dropped = layers.dropout(x, 0.25, jax.random.PRNGKey(3))
    np.testing.assert_allclose(
        added, 0.5 * (dropped @ w.a_Ir) @ w.b_rO, rtol=1e-3, atol=1e-4
    )
    assert abs(float(jnp.mean(dropped == 0)) - 0.25) < 0.03
    without = dataclasses.replace(w, key=None)
    np.testing.assert_array_equal(
        layers.dense(x, without, "float32"), layers.dense(x, plain, "float32")
    )


def test_a_key_for_each_layer_and_matrix():
    config = dataclasses.replace(LORA, dropout=0.1)
    model = FAMILIES["gqa"]
    params, tree = families.weights(model), transformer.param_specs(model)
    change = lora.initial(params, tree, config, jax.random.key(0))
    adapted = lora.adapted(params, change, config, jax.random.PRNGKey(1))
    found = jax.tree.leaves(adapted, is_leaf=lambda x: isinstance(x, Changed))
    keys = np.concatenate([x.key for x in found if isinstance(x, Changed)])
    assert keys.shape == (7 * model.num_layers, 2)
    assert len(np.unique(keys, axis=0)) == len(keys)
    for dropless in (
        lora.adapted(params, change, config),
        lora.adapted(params, change, LORA, jax.random.PRNGKey(1)),
    ):
        assert dropless["layers"]["mlp"]["up"].key is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, bits",
    [
        pytest.param({}, 0, marks=pytest.mark.slow),
        pytest.param({}, 4, marks=pytest.mark.slow),
        pytest.param(SCAN, 0, marks=pytest.mark.slow),
        (SCAN, 4),
    ],
)
def test_a_change_is_learnt_without_a_gradient_of_its_base(changes: dict, bits: int):
    """Of 6 operations a parameter and token 4 are left, and little for rank 2."""
    config = dataclasses.replace(
        families.BASE, model_dim=64, mlp_dim=256, head_dim=16, num_layers=2, **changes
    )
    tree = transformer.param_specs(config)
    params = base = specs.initialize(tree, jax.random.key(0))
    if bits:
        base = quantized.quantize(params, tree, bits)
    config_of_change = dataclasses.replace(LORA, rank=2)
    change = lora.initial(base, tree, config_of_change, jax.random.key(1))
    batch = families.alone([np.arange(60)] * 4, 64)
    loss = losses.make_next_token_loss(config)

    def of_change(change, base):
        params = lora.adapted(base, change, config_of_change)
        return loss(params, None, batch, None)[0]

    def flops(function, *arguments) -> float:
        compiled = jax.jit(jax.grad(function)).lower(*arguments).compile()
        return compiled.cost_analysis()["flops"]

    whole = flops(lambda params: loss(params, None, batch, None)[0], params)
    assert 0.55 < flops(of_change, change, base) / whole < 0.8
    slopes = jax.jit(jax.grad(of_change))(change, base)
    found = lora.factors(slopes)
    assert len(found) == 7 and all(np.any(x["b"]) for x in found.values())
    assert not any(np.any(x["a"]) for x in found.values())  # behind a b of zeros
