"""The Flax module is the pure function."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from genlm.model import transformer
from genlm.model.linen import Transformer
from genlm.parallel import specs
from tests.laws.families import FAMILIES

OFTEN = ("gqa", "biases_gelu", "scan")  # the others are slow tests
TOKENS_BT = jnp.asarray([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 0]], jnp.int32)
SEGMENTS_BT = jnp.asarray([[1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 1, 0]], jnp.int32)
POSITIONS_BT = jnp.asarray([[0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0]], jnp.int32)


def _pure(params, config, key=None):
    batch = {
        "tokens": TOKENS_BT,
        "segments": SEGMENTS_BT,
        "positions": POSITIONS_BT,
    }
    hidden_BTD, _, _ = transformer.apply(params, batch, config, key=key)
    return transformer.unembed(params, hidden_BTD, config)


@pytest.mark.parametrize(
    "family",
    [f if f in OFTEN else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES],
)
def test_the_module_is_the_function_to_the_bit(family: str):
    config = FAMILIES[family]
    model = Transformer(config)
    variables = model.init(jax.random.PRNGKey(0), TOKENS_BT)
    params = nn.meta.unbox(variables["params"])
    of_specs = specs.shapes(transformer.param_specs(config))
    assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(
        lambda x: x.shape, of_specs
    )
    logits = jax.jit(model.apply)(variables, TOKENS_BT, SEGMENTS_BT, POSITIONS_BT)
    expected = jax.jit(lambda p: _pure(p, config))(params)
    np.testing.assert_array_equal(logits, expected)


def test_each_array_is_boxed_with_its_axes():
    config = FAMILIES["biases_gelu"]
    shapes = jax.eval_shape(Transformer(config).init, jax.random.PRNGKey(0), TOKENS_BT)
    named = nn.get_partition_spec(shapes)["params"]
    of_specs = jax.tree.map(
        lambda s: PartitionSpec(*s.axes), transformer.param_specs(config)
    )
    assert named == of_specs


def test_dropout_needs_training_and_a_key():
    config = dataclasses.replace(FAMILIES["biases_gelu"], dropout=0.5)
    model = Transformer(config)
    variables = model.init(jax.random.PRNGKey(0), TOKENS_BT)
    still = model.apply(variables, TOKENS_BT)
    keys = {"dropout": jax.random.PRNGKey(1)}
    dropped = model.apply(variables, TOKENS_BT, train=True, rngs=keys)
    again = model.apply(variables, TOKENS_BT, train=True, rngs=keys)
    assert not np.allclose(still, dropped)
    np.testing.assert_array_equal(dropped, again)


def test_a_flax_user_trains_it():
    """With nothing of genlm but the module."""
    config = dataclasses.replace(next(iter(FAMILIES.values())), dtype="float32")
    model = Transformer(config)
    params = nn.meta.unbox(model.init(jax.random.PRNGKey(0), TOKENS_BT))

    @jax.jit
    def loss(params):
        logits = model.apply(params, TOKENS_BT[:, :-1])
        picked = jnp.take_along_axis(
            jax.nn.log_softmax(logits), TOKENS_BT[:, 1:, None], axis=-1
        )
        return -jnp.mean(picked)

    first = loss(params)
    for _ in range(30):
        step = jax.grad(loss)(params)
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, step)
    assert loss(params) < 0.8 * first
