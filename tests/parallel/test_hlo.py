"""Counting in compiled programs: products and messages of programs whose numbers are
known, as XLA writes them for CPU devices, loops and all; and in what it wrote for a
TPU."""

import gzip
import math
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from genlm.parallel import hlo_counts as hlo

GOLDEN = Path(__file__).parents[1] / "golden"


def compiled(function, *shapes, mesh=None, specs=()) -> str:
    """The text of `function`, compiled for float32 arrays of these shapes."""
    arrays = []
    for shape, spec in zip(shapes, specs or [None] * len(shapes)):
        at = None if mesh is None else NamedSharding(mesh, spec)
        arrays.append(jax.ShapeDtypeStruct(shape, jnp.float32, sharding=at))
    return jax.jit(function).lower(*arrays).compile().as_text()


def chained(x, ws):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]


def test_a_product():
    counts = hlo.count(compiled(jnp.matmul, (8, 16), (16, 32)), 1)
    assert counts.flops == 2 * 8 * 16 * 32
    assert counts.collectives == []
    sizes = 8 * 16, 16 * 32, 8 * 32
    assert counts.hbm_bytes == 4 * sum(sizes)


@pytest.mark.parametrize("turns", [1, 5, 12])
def test_a_loop_counts_as_often_as_it_turns(turns: int):
    text = compiled(chained, (8, 16), (turns, 16, 16))
    assert hlo.count(text, 1).flops == turns * 2 * 8 * 16 * 16


def test_loops_in_loops_and_their_gradients():
    def loss(x, ws):
        return jnp.sum(jax.lax.scan(lambda x, w: (chained(x, w), None), x, ws)[0])

    text = compiled(jax.grad(loss, argnums=(0, 1)), (8, 16), (3, 4, 16, 16))
    assert hlo.count(text, 1).flops == 3 * (3 * 4 * 2 * 8 * 16 * 16)


def test_a_slice_of_a_stack_is_read_not_the_stack():
    """Else a loop over layers would count every layer's weights once a layer."""
    few, many = (
        hlo.count(compiled(chained, (8, 256), (n, 256, 256)), 1).hbm_bytes
        for n in (4, 16)
    )
    assert many < 5 * few


def test_messages_in_a_loop_over_the_axis_they_take():
    mesh = jax.make_mesh((2, 4), ("data", "tensor"))

    def function(x, ws):
        def turn(x, w):
            return jax.lax.psum(x @ w, "tensor"), None

        return jax.lax.scan(turn, x, ws)[0]

    spec = PartitionSpec()
    local = jax.shard_map(
        function, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False
    )
    with jax.set_mesh(mesh):
        text = compiled(local, (8, 16), (6, 16, 16), mesh=mesh, specs=[spec] * 2)
    sums = [c for c in hlo.count(text, 8).collectives if c.kind == "all-reduce"]
    assert sum(c.times for c in sums) == 6
    assert {c.bytes for c in sums} == {4 * 8 * 16}
    assert {frozenset(c.groups) for c in sums} == {
        frozenset({(0, 1, 2, 3), (4, 5, 6, 7)})
    }


def test_gathered_weights():
    mesh = jax.make_mesh((8,), ("fsdp",))
    rows, columns = PartitionSpec("fsdp"), PartitionSpec("fsdp", None)
    text = compiled(jnp.matmul, (16, 64), (64, 32), mesh=mesh, specs=[rows, columns])
    gathers = hlo.count(text, 8).collectives
    assert [c.kind for c in gathers] == ["all-gather"]
    assert gathers[0].bytes * gathers[0].times == 4 * 64 * 32


@pytest.mark.parametrize(
    "written, groups",
    [
        ("replica_groups={{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
        ("replica_groups={}", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", ((0, 1, 2, 3),)),
        (
            "replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}",
            ((0, 1), (2, 3)),
        ),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=2] {'a','b'}", ((0, 2), (1, 3))),
    ],
)
def test_groups_in_every_way_of_writing(written: str, groups):
    assert hlo._groups(written, 4) == groups


@pytest.mark.parametrize("seed", range(8))
def test_products_written_as_convolutions(seed: int):
    """As many pairs as a convolution with as many ones makes."""
    rng = np.random.default_rng(seed)
    size, kernel = rng.integers(1, 9, 2)
    stride, left, right = rng.integers(1, 4, 3)
    low, high = rng.integers(0, 9, 2)
    spread = (size - 1) * left + 1 + low + high
    reach = (kernel - 1) * right + 1
    out = max((spread - reach) // stride + 1, 0)
    ones = jax.lax.conv_general_dilated(
        jnp.ones((1, 1, size)),
        jnp.ones((1, 1, kernel)),
        (stride,),
        [(low, high)],
        lhs_dilation=(left,),
        rhs_dilation=(right,),
    )
    window = hlo._Window(stride, low, left, right)
    assert ones.shape[-1] == out
    assert hlo._pairs(size, kernel, out, window) == int(jnp.sum(ones))


def test_what_was_compiled_for_a_tpu():
    """Two layers of 2048 with splash attention on a v5e:2x4, fsdp=8, full remat: every
    product of the model, those that are computed again, and no more."""
    text = gzip.open(GOLDEN / "step_v5e_2x4.hlo.gz", "rt").read()
    counts = hlo.count(text, 8)
    B, T, D, F, N, K, H, V, L = 2, 1024, 2048, 8192, 32, 8, 64, 32768, 2
    attend = 2 * D * (N + K) * H
    once = attend + 3 * D * F
    again = once - D * F  # what flows out of a layer was kept
    products = 2 * B * T * (L * (3 * once + again) + 3 * D * V)
    splash = {"fwd": 2, "dkv": 4, "dq": 3}
    square = B * N * T * H * (T + 512)
    kernels = L * square * (2 * splash["fwd"] + splash["dkv"] + splash["dq"])
    assert counts.flops == pytest.approx(products + kernels, rel=0.02)
    weights = L * once + D * V
    gathered = sum(
        c.bytes * c.times for c in counts.collectives if c.kind == "all-gather"
    )
    passed = sum(
        c.bytes * c.times for c in counts.collectives if c.kind == "collective-permute"
    )
    # gathered forward and backward in bfloat16, gradients reduced in float32; a ring of
    # eight passes each part on seven times, and some once more
    assert gathered + passed == pytest.approx((2 + 2 + 4) * weights, rel=0.1)
    assert math.isfinite(counts.hbm_bytes) and counts.hbm_bytes > 0
