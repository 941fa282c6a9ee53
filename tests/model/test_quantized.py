"""Weights in few bits: their numbers beside the papers', their room, their use."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genlm.model import layers, matrices, quantized, transformer
from genlm.model.quantized import BLOCK, NF4, Quantized, quantize
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding, specs
from genlm.parallel.specs import ParamSpec
from tests.laws import families
from tests.laws.families import FAMILIES, SCAN

WIDE = dataclasses.replace(
    families.BASE, model_dim=128, mlp_dim=200, num_heads=4, head_dim=24, num_kv_heads=2
)
TREE = transformer.param_specs(WIDE)
PARAMS = specs.initialize(TREE, jax.random.key(0))
SPECS = {"w": ParamSpec((2, 150, 3, 4), ("layers", "embed", "heads", "head_dim"))}


def there_and_back(w: np.ndarray, bits: int) -> np.ndarray:
    held = quantize({"w": jnp.asarray(w)}, SPECS, bits)["w"]
    return np.asarray(quantized.as_array(held))


def weights(scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return scale * rng.standard_normal(SPECS["w"].shape).astype(np.float32)


def test_the_sixteen_values_are_quantiles():
    """As bitsandbytes makes them (create_normal_map): 8 above 0 and 7 below."""
    above = norm.ppf(np.linspace(0.9677083, 0.5, 9)[:-1])
    below = norm.ppf(np.linspace(0.9677083, 0.5, 8)[:-1])
    values = np.sort(np.concatenate([above, [0.0], -below])) / above.max()
    np.testing.assert_allclose(NF4, values, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_each_of_4_bits_is_the_nearest_of_its_block(scale: float):
    w = weights(scale)
    back = there_and_back(w, 4)
    for layer in range(2):
        rows, found = (x[layer].reshape(150, 12) for x in (w, back))
        for first in range(0, 150, BLOCK):
            block = rows[first : first + BLOCK]
            largest = np.abs(block).max(0)
            known = np.asarray(NF4)[:, None, None] * largest
            nearest = np.abs(block - known).argmin(0)
            expected = np.take_along_axis(known, nearest[None], 0)[0]
            np.testing.assert_allclose(
                found[first : first + BLOCK], expected, rtol=1e-5
            )


def test_each_of_8_bits_is_within_half_a_step():
    w = weights()
    largest = np.abs(w).max(axis=1, keepdims=True)
    off = np.abs(there_and_back(w, 8) - w) / (largest / 127)
    assert off.max() <= 0.5 + 1e-4
    assert abs(np.sqrt(np.mean(off**2)) - 12**-0.5) < 0.01  # of a uniform error


def test_normal_numbers_in_4_bits_are_off_as_much_as_their_levels_say():
    """The mean square by an integral over a normal density, at the scale of a block's
    largest, itself averaged over such blocks."""
    w = weights()
    error = np.mean((there_and_back(w, 4) - w)[:, :128] ** 2)
    rng = np.random.default_rng(1)
    x = np.linspace(-6, 6, 4001)
    total = 0.0
    for size in np.abs(rng.standard_normal((200, BLOCK))).max(axis=1):
        levels = np.asarray(NF4) * size
        inside = np.abs(x) <= size
        off = np.abs(x[:, None] - levels).min(1) ** 2
        total += np.sum(off * norm.pdf(x) * inside) / np.sum(norm.pdf(x) * inside)
    assert error == pytest.approx(total / 200, rel=0.1)


def test_on_a_tpu_the_values_are_the_same(monkeypatch):
    w = weights()
    here = there_and_back(w, 4)
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    np.testing.assert_array_equal(there_and_back(w, 4), here)


@pytest.mark.parametrize("bits", quantized.BITS)
def test_zeros_stay_zeros(bits: int):
    w = np.zeros(SPECS["w"].shape, np.float32)
    w[0, :, 1] = weights()[0, :, 1]
    back = there_and_back(w, bits)
    assert np.isfinite(back).all() and not back[1].any() and not back[0, :, 0].any()


def size(tree) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("bits, share", [(8, 0.27), (4, 0.16)])
def test_room_for_the_matrices(bits: int, share: float):
    """4.5 bits a number where blocks are full, 8 and a scale a column; all that is no
    matrix of a block stays."""
    held = quantize(PARAMS, TREE, bits)
    known = matrices.of(TREE)
    assert len(known) == 7
    assert 0 < size(held["layers"]) / size(PARAMS["layers"]) < share
    for name in ("embedding", "final_norm"):
        assert held[name] is PARAMS[name]
    down = held["layers"]["mlp"]["down"]  # 200 rows: 4 blocks, the last not full
    full = {8: 2 * (200 * 128 + 4 * 128), 4: 2 * (4 * 32 * 128 + 4 * 4 * 128)}
    assert isinstance(down, Quantized) and size(down) == full[bits]


@pytest.mark.slow
def test_arrays_are_given_up_one_after_the_other():
    params = jax.tree.map(jnp.copy, PARAMS)
    held = quantize(params, TREE, 4, donate=True)
    assert params["layers"]["mlp"]["up"].is_deleted()
    assert not params["embedding"].is_deleted()
    jax.tree.map(np.testing.assert_array_equal, held, quantize(PARAMS, TREE, 4))


@pytest.mark.parametrize(
    "changes",
    [pytest.param({}, marks=pytest.mark.slow), SCAN],
    ids=["unrolled", "scan"],
)
@pytest.mark.parametrize("bits, bound", [(8, 0.02), (4, 0.2)])
def test_logits_are_near_those_of_all_bits(changes: dict, bits: int, bound: float):
    """The bound is of the spread of the logits."""
    config = dataclasses.replace(WIDE, **changes)
    batch = families.alone([np.arange(12)], 12)
    exact = families.logits(config, batch, PARAMS)
    near = families.logits(config, batch, quantize(PARAMS, TREE, bits))
    off = np.std(near - exact) / np.std(exact)
    assert 0 < off < bound


@pytest.mark.parametrize("name", ["o", pytest.param("q", marks=pytest.mark.slow)])
def test_the_gradient_of_x_is_that_of_the_plain_matrix(name: str):
    held = quantize(PARAMS, TREE, 4)["layers"]["attention"][name]
    w = jax.tree.map(lambda x: x[0], held)
    plain = quantized.as_array(w)
    contract = 2 if name == "o" else 1
    x = jax.random.normal(jax.random.key(1), (2, 3, *plain.shape[:contract]))

    def loss(x, w):
        return jnp.sum(jnp.sin(layers.dense(x, w, "float32", contract)))

    ours, theirs = (jax.jit(jax.grad(loss))(x, each) for each in (w, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_on_a_mesh_codes_are_split_as_the_weights_were(bits: int):
    mesh = meshes.make(meshes.MeshConfig(fsdp=2, tensor=2, data=2), jax.devices()[:8])
    with sharding.laid_out(mesh):
        params = jax.device_put(PARAMS, sharding.of_specs(TREE, mesh))
        held = quantize(params, TREE, bits)
        expected = sharding.of_specs(quantized.quantized_specs(TREE, bits), mesh)
    for x, at in zip(jax.tree.leaves(held), jax.tree.leaves(expected), strict=True):
        assert x.sharding.is_equivalent_to(at, x.ndim)
    up = held["layers"]["mlp"]["up"].codes
    assert up.addressable_shards[0].data.nbytes == up.nbytes // 4
    jax.tree.map(np.testing.assert_array_equal, held, quantize(PARAMS, TREE, bits))


def test_families_keep_their_arrays_that_are_no_matrix():
    """Experts are read as they are, by dispatch."""
    config = FAMILIES["mixtral"]
    tree = transformer.param_specs(config)
    held = quantize(families.weights(config), tree, 8)
    kinds = {name: type(x) for name, x in held["layers"]["mlp"].items()}
    assert not any(issubclass(kind, Quantized) for kind in kinds.values())
    assert isinstance(held["layers"]["attention"]["o"], Quantized)
