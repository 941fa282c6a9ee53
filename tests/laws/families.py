"""THE FAMILIES: the models over which the laws are stated; a new one joins as a row.

Also what the laws share: weights that all matter, texts as rows of their own, the
trainer's full forward pass, and what it means that two results agree.
"""

import dataclasses
import functools
from typing import Any, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import lora, quantized, transformer
from genlm.model.config import TransformerConfig
from genlm.model.lora import LoraConfig

BASE = TransformerConfig(
    vocab_size=61,
    max_length=16,
    num_layers=2,
    model_dim=16,
    num_heads=4,
    num_kv_heads=4,
    head_dim=8,
    mlp_dim=24,
)
SCAN = {"scan_layers": True}
GEMMA2 = {
    "unit_offset": True,
    "post_norms": True,
    "activation": "geglu",
    "embedding_scale": 4.0,
    "layer_pattern": "LG",
    "window": 5,
    "attention_scale": 0.5,
    "attention_cap": 2.0,
    "logit_cap": 3.0,
}
EXPERTS = {"num_experts": 4, "experts_per_token": 2}
FAMILIES = {
    name: dataclasses.replace(BASE, **changes)
    for name, changes in {
        "mha_swiglu_tied": {},
        "gqa": {"num_kv_heads": 2},
        "mqa_geglu": {"num_kv_heads": 1, "activation": "geglu"},
        "biases_gelu": {"use_bias": True, "activation": "gelu"},
        "untied_relu2": {"tie_embeddings": False, "activation": "relu2"},
        "scan": SCAN,
        "scan_remat_full": SCAN | {"remat": "full"},
        "remat_dots": {"remat": "dots"},
        "bfloat16": {"dtype": "bfloat16"},
        "gpt2": {
            "norm": "layer",
            "positions": "learned",
            "max_length": 55,  # as many positions as a law reads
            "activation": "gelu",
            "use_bias": True,
        },
        "llama3": {
            "rope_scaling": "llama3",
            "rope_factor": 8.0,
            "rope_original_length": 8,
            "tie_embeddings": False,
        },
        "yarn": {
            "rope_scaling": "yarn",
            "rope_factor": 4.0,
            "rope_high": 32.0,
            "rope_original_length": 64,
        },
        "mistral": {"layer_pattern": "L", "window": 6, "num_kv_heads": 2},
        "qwen2": {"qkv_bias": True, "num_kv_heads": 2},
        "qwen3": {"qk_norm": True, "num_kv_heads": 2},
        "gemma2": GEMMA2,
        "gemma2_scan": GEMMA2 | SCAN,
        "gemma3": {
            "unit_offset": True,
            "post_norms": True,
            "qk_norm": True,
            "activation": "geglu",
            "embedding_scale": 4.0,
            "layer_pattern": "LLG",
            "num_layers": 3,
            "window": 5,
            "rope_scaling": "linear",
            "rope_factor": 8.0,
            "rope_local_theta": 100.0,
        },
        "mixtral": EXPERTS,
        "qwen3_moe_scan": EXPERTS
        | SCAN
        | {
            "qk_norm": True,
            "normalize_experts": False,
            "expert_dispatch": "grouped",
        },
    }.items()
}
RARE = (  # slow tests
    "llama3",
    "yarn",
    "qwen2",
    "qwen3",
    "mistral",
    "mqa_geglu",
    "untied_relu2",
    "remat_dots",
    "gemma2_scan",
    "qwen3_moe_scan",
)
every_family = pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=[pytest.mark.slow] * (name in RARE))
        for name, config in FAMILIES.items()
    ],
)


@functools.cache
def weights(config: TransformerConfig) -> Any:
    """Parameters in which every array matters: no bias is 0 and no norm is 1."""
    rng = np.random.default_rng(0)

    def array(spec) -> jax.Array:
        noise = 0.25 * rng.standard_normal(spec.shape)
        return jnp.asarray(noise + (spec.init == "ones"), jnp.float32)

    return jax.tree.map(array, transformer.param_specs(config))


LORA = LoraConfig(rank=3, alpha=6.0, targets=("*",))
ADAPTED = {  # name: (family, the change of its matrices, bits of these; 0 for all)
    "lora": ("gqa", LORA, 0),
    "rslora_scan": ("gemma2_scan", dataclasses.replace(LORA, rank_stabilised=True), 0),
    "dora": ("gpt2", dataclasses.replace(LORA, dora=True), 0),
    "8_bits": ("mixtral", None, 8),
    "4_bits_dora_scan": ("scan", dataclasses.replace(LORA, dora=True), 4),
    "4_bits_lora_of_some": ("qwen3", dataclasses.replace(LORA, targets=("*/[qo]",)), 4),
}
OFTEN = ("4_bits_dora_scan",)  # of the others the tests are slow
every_adapted = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in OFTEN))
        for name in ADAPTED
    ],
)


@functools.cache
def adapted(name: str) -> tuple[Any, TransformerConfig]:
    """Parameters with a change that matters beside them, and the config."""
    family, change, bits = ADAPTED[name]
    config = FAMILIES[family]
    params, specs = weights(config), transformer.param_specs(config)
    if bits:
        params = quantized.quantize(params, specs, bits)
    if change is not None:
        params = lora.adapted(params, learnt(params, specs, change), change)
    return params, config


def learnt(params: Any, specs: Any, change: LoraConfig) -> Any:
    """A change of which every array matters."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: x + jnp.asarray(0.25 * rng.standard_normal(x.shape), jnp.float32),
        lora.initial(params, specs, change, jax.random.key(0)),
    )


def alone(texts: Sequence[Sequence[int]], length: int, pad: int = 0) -> dict[str, Any]:
    """A batch [texts, length] with each text in a row of its own, PAD on the right.

    A row predicts each token of its text but the first, as a row of
    genlm.data.batches does; a text has at most `length` + 1 tokens.
    """
    B, T = len(texts), length
    slots_BT = np.full((B, T + 1), pad, np.int32)
    for row, text in zip(slots_BT, texts, strict=True):
        row[: len(text)] = text
    sizes_B1 = np.asarray([len(t) for t in texts])[:, None]
    places_BT = np.broadcast_to(np.arange(T), (B, T))
    real_BT = places_BT < sizes_B1
    return {
        "tokens": slots_BT[:, :-1],
        "targets": slots_BT[:, 1:],
        "weights": (places_BT + 1 < sizes_B1).astype(np.float32),
        "segments": real_BT.astype(np.int32),
        "positions": (places_BT * real_BT).astype(np.int32),
    }


def inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """What a model reads of a batch."""
    return {name: batch[name] for name in ("tokens", "segments", "positions")}


@functools.partial(jax.jit, static_argnames="config")
def hidden(params: Any, batch: dict[str, Any], config: TransformerConfig) -> jax.Array:
    """hidden_BTD of whole rows, without a cache: what the trainer computes."""
    return transformer.apply(params, batch, config)[0]


def logits(
    config: TransformerConfig, batch: dict[str, Any], params: Any = None
) -> jax.Array:
    """logits_BTV of whole rows, under `weights(config)` if no others are given."""
    params = weights(config) if params is None else params
    hidden_BTD = hidden(params, inputs(batch), config)
    return transformer.unembed(params, hidden_BTD, config)


def assert_agree(a: Any, b: Any, config: TransformerConfig) -> None:
    """float32: no difference above 1e-4; bfloat16: their mean is at most 0.02."""
    difference = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    assert difference.size
    if config.dtype == "bfloat16":
        assert np.mean(difference) <= 0.02
    else:
        assert np.max(difference) <= 1e-4
