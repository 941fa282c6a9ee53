"""cuDNN's attention, as it is traced for an NVIDIA GPU that is not here; what the
kernel computes there is not tested."""

import jax
from jax._src.cudnn import fused_attention_stablehlo as fused
import jax.numpy as jnp
import pytest

from genlm.model import attention, kernels
from genlm.model.sight import Sight, mask
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding

B, T, N, K, H = 4, 64, 4, 2, 32


@pytest.fixture(autouse=True)
def a_gpu_that_is_not_here(monkeypatch):
    monkeypatch.setattr(attention, "platform", lambda: "gpu")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91_000)


def _lowered(dtype=jnp.bfloat16, cap: float = 0.0, **sizes: int) -> str:
    """The step's text for CUDA: attention and its gradients."""
    mesh = meshes.make(meshes.MeshConfig(**{"data": 1, **sizes}), jax.devices()[:4])
    slots = jnp.arange(T)
    ones_BT = jnp.ones((B, T), jnp.int32)
    sight = Sight(slots, slots, ones_BT, ones_BT, slots[None], slots[None], T)

    def loss(q, k, v):
        out = attention.attend(
            q, k, v, sight, mask(sight), causal_square=True, scale=0.1, cap=cap
        )
        return jnp.sum(out.astype(jnp.float32))

    with sharding.laid_out(mesh):
        q, kv = jnp.zeros((B, T, N, H), dtype), jnp.zeros((B, T, K, H), dtype)
        traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, kv, kv)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_a_gpu_reads_rows_with_cudnn_on_any_mesh():
    for sizes in ({"data": 4}, {"fsdp": 2, "tensor": 2}, {"tensor": 4}):
        text = _lowered(**sizes)
        assert "__cudnn$fmhaScaleBiasSoftmax(" in text.replace('"', "(")
        assert "__cudnn$fmhaScaleBiasSoftmaxBackward" in text


@pytest.mark.parametrize("change", [{"dtype": jnp.float32}, {"cap": 5.0}])
def test_what_cudnn_does_not_take_is_read_without_it(change: dict):
    assert "__cudnn" not in _lowered(data=4, **change)


def test_what_fits():
    def fits(T=T, S=T, H=H, dtype=jnp.bfloat16) -> bool:
        return kernels.cudnn_fits(
            jnp.zeros((B, T, N, H), dtype), jnp.zeros((B, S, K, H), dtype)
        )

    assert fits() and fits(T=2, S=200, H=128, dtype=jnp.float16)
    assert not fits(T=1)  # a token after others
    assert not any((fits(H=36), fits(H=256), fits(dtype=jnp.float32)))
