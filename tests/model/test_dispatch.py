"""Tokens and their experts: three ways to bring them together, one result."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import dispatch, moe
from genlm.model.config import TransformerConfig
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from tests.laws.families import BASE, EXPERTS

CONFIG = dataclasses.replace(BASE, **EXPERTS)
B, T, D, F, E = 4, 8, CONFIG.model_dim, CONFIG.mlp_dim, CONFIG.num_experts


def inputs():
    """x_BTD, weights of the router and experts, and which tokens are no PAD."""
    shapes = {"router": (D, E), "up": (E, D, F), "gate": (E, D, F), "down": (E, F, D)}
    keys = jax.random.split(jax.random.PRNGKey(0), 5)
    params = {
        name: 0.3 * jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items())
    }
    real_BT = jnp.arange(T)[None] < jnp.array([[T], [T - 3], [1], [T]])
    return jax.random.normal(keys[4], (B, T, D)), params, real_BT


def outputs(config: TransformerConfig):
    """What experts add, and the gradients of it."""
    x_BTD, params, real_BT = inputs()

    @jax.jit
    def loss(x_BTD, params):
        out_BTD, _, sums = moe.apply(x_BTD, params, config, real_BT, False)
        out_BTD = jnp.where(real_BT[..., None], out_BTD, 0.0)
        return jnp.sum(jnp.sin(out_BTD)), (out_BTD, sums)

    return jax.grad(loss, (0, 1), has_aux=True)(x_BTD, params)


def assert_same(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected
    )


@pytest.mark.parametrize("way", ["grouped", "capacity"])
def test_one_device(way: str):
    config = dataclasses.replace(CONFIG, expert_dispatch=way, capacity_factor=4.0)
    assert_same(outputs(config), outputs(CONFIG))


@pytest.mark.parametrize("way", ["grouped", "capacity"])
def test_in_bfloat16(way: str):
    """It runs on a CPU too, which multiplies few orders of such dims, and the loss's
    gradients are those of float32 but for rounding. Nobody chooses: all experts read.
    """
    everybody = dataclasses.replace(CONFIG, experts_per_token=E, capacity_factor=4.0)
    config = dataclasses.replace(everybody, dtype="bfloat16", expert_dispatch=way)
    (found, (out_BTD, _)), (expected, (right_BTD, _)) = map(
        outputs, (config, everybody)
    )
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for a, b in [(out_BTD, right_BTD), *pairs]:
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("dense", marks=pytest.mark.slow),
        "grouped",
        pytest.param("capacity", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param({"expert": 4}, marks=pytest.mark.slow),
        pytest.param({"expert": 2, "tensor": 2}, marks=pytest.mark.slow),
        {"fsdp": 2, "expert": 2, "context": 2},
    ],
    ids=str,
)
def test_experts_on_several_devices(way: str, sizes: dict[str, int]):
    config = dataclasses.replace(CONFIG, expert_dispatch=way, capacity_factor=4.0)
    num = int(np.prod(list(sizes.values())))
    mesh = meshes.make(meshes.MeshConfig(**{"data": 1, **sizes}), jax.devices()[:num])
    with sharding.laid_out(mesh):
        found = outputs(config)
    assert_same(found, outputs(CONFIG))


def test_tokens_beyond_the_capacity_go_without():
    """By hand: all tokens choose expert 0 first; each row has room for 2 of its 4."""
    config = dataclasses.replace(
        CONFIG, expert_dispatch="capacity", capacity_factor=1.0, num_experts=2
    )
    chosen_BTk = jnp.zeros((1, 4, 1), jnp.int32)
    one = jnp.ones((1, 4, 1))
    params = {
        "up": jnp.ones((2, D, F)),
        "gate": jnp.ones((2, D, F)),
        "down": jnp.ones((2, F, D)),
    }
    out_BTD = dispatch.apply(
        jnp.ones((1, 4, D)), chosen_BTk, one, params, config, jnp.ones((1, 4), bool)
    )
    assert (np.asarray(out_BTD)[0, :2] > 0).all()
    assert (np.asarray(out_BTD)[0, 2:] == 0).all()


def test_the_sums_for_losses():
    """1 a token where experts are chosen alike, E where one takes all; PAD is out."""
    real_BT = jnp.array([[True, True, False]])
    even = moe.Routed(
        jnp.array([[[0], [1], [1]]]),
        jnp.ones((1, 3, 1)),
        jnp.zeros((1, 3, 2)),
        jnp.full((1, 3, 2), 0.5),
    )
    sums = moe.sums(even, real_BT)
    np.testing.assert_allclose(sums["balance"], 2.0)
    np.testing.assert_allclose(sums["router_z"], 2 * np.log(2) ** 2, rtol=1e-6)
    one_takes_all = even._replace(
        chosen_BTk=jnp.zeros((1, 3, 1), int),
        shares_BTE=jnp.array([[[1.0, 0.0]] * 3]),
    )
    np.testing.assert_allclose(moe.sums(one_takes_all, real_BT)["balance"], 4.0)
