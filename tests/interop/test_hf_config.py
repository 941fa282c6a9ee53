"""config.json: published ones are read and come back; what is not known is refused."""

import dataclasses
import json
from typing import Any

import pytest

from genlm.errors import UserError
from genlm.interop import hf_config, weights
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import specs
from tests.command import ROOT
from tests.interop.test_families import GOLDEN

# As their authors published them, with the number of parameters that they state.
PUBLISHED = json.loads((ROOT / "tests/golden/published_configs.json").read_text())
every_model = pytest.mark.parametrize("name", PUBLISHED)


def read(config: dict) -> TransformerConfig:
    return TransformerConfig(**hf_config.to_config(config))


@every_model
def test_a_published_model_has_its_size_and_comes_back(name: str):
    published = PUBLISHED[name]
    config = read(published["config"])
    assert specs.count(transformer.param_specs(config)) == published["parameters"]
    family = hf_config.family_of(config)
    assert family == published["config"]["model_type"]
    assert read(hf_config.from_config(config, family)) == config


@every_model
def test_every_parameter_has_its_name(name: str):
    """Sizes of the file's tensors add up to the model's, under names of the family."""
    config = read(PUBLISHED[name]["config"])
    shapes = weights.shapes(config, PUBLISHED[name]["config"]["model_type"])
    total = 0
    for shape in shapes.values():
        size = 1
        for dim in shape:
            size *= dim
        total += size
    assert total == PUBLISHED[name]["parameters"]


def changed(name: str, **changes: Any) -> dict:
    """A published config with other values; ... takes a key away."""
    config = {**PUBLISHED[name]["config"], **changes}
    return {key: value for key, value in config.items() if value is not ...}


SMALL, MISTRAL = "HuggingFaceTB/SmolLM2-135M", "mistralai/Mistral-7B-v0.1"
QWEN, GEMMA = "Qwen/Qwen2.5-0.5B", "google/gemma-3-1b-it"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
YARN_FIELDS = {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_high": 32.0}


@pytest.mark.parametrize(
    "name, changes, fields",
    [
        (SMALL, {}, {"layer_pattern": "G", "rope_theta": 1e5, "use_bias": False}),
        (SMALL, {"num_key_value_heads": None}, {"num_kv_heads": 9}),
        (SMALL, {"rms_norm_eps": ...}, {"norm_eps": 1e-6}),
        (SMALL, {"attention_bias": True, "mlp_bias": True}, {"use_bias": True}),
        (SMALL, {"hidden_act": "gelu_pytorch_tanh"}, {"activation": "geglu"}),
        (
            SMALL,
            {"rope_scaling": {"type": "linear", "factor": 2}},
            {"rope_scaling": "linear", "rope_factor": 2.0},
        ),
        (SMALL, {"rope_scaling": YARN}, YARN_FIELDS),
        (
            SMALL,
            {"rope_scaling": ..., "rope_theta": ..., "rope_parameters": YARN},
            {**YARN_FIELDS, "rope_theta": 10_000.0},
        ),
        (
            SMALL,
            {"rope_theta": ..., "rope_parameters": {"rope_theta": 7.0}},
            {"rope_theta": 7.0, "rope_scaling": "none"},
        ),
        (MISTRAL, {}, {"layer_pattern": "L", "window": 4096}),
        (MISTRAL, {"sliding_window": None}, {"layer_pattern": "G", "window": 0}),
        (MISTRAL, {"sliding_window": ...}, {"layer_pattern": "L", "window": 4096}),
        (QWEN, {}, {"layer_pattern": "G", "qkv_bias": True}),
        (
            QWEN,
            {"use_sliding_window": True, "max_window_layers": 20},
            {"layer_pattern": "G" * 20 + "LLLL", "window": 32768},
        ),
        (
            QWEN,
            {
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"] * 12,
            },
            {"layer_pattern": "LG", "window": 32768},
        ),
        (
            GEMMA,
            {},
            {
                "layer_pattern": "LLLLLG",
                "window": 512,
                "rope_local_theta": 1e4,
                "embedding_scale": 1152**0.5,
                "attention_scale": 1 / 16,
                "tie_embeddings": True,
            },
        ),
        (
            GEMMA,
            {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            {"rope_scaling": "linear", "rope_factor": 8.0, "rope_local_theta": 1e4},
        ),
        ("google/gemma-2-2b", {}, {"layer_pattern": "LG", "attention_cap": 50.0}),
        ("google/gemma-2-2b", {"final_logit_softcapping": None}, {"logit_cap": 0.0}),
    ],
)
def test_what_a_key_means(name: str, changes: dict, fields: dict):
    config = read(changed(name, **changes))
    assert {key: getattr(config, key) for key in fields} == fields
    again = hf_config.from_config(config, PUBLISHED[name]["config"]["model_type"])
    assert read(again) == config


@pytest.mark.parametrize(
    "name, changes, complaint",
    [
        (SMALL, {"model_type": "opt"}, "model_type is 'opt'; known are llama, mistral"),
        (SMALL, {"model_type": "gemma3"}, "known are .*, gemma3_text"),
        (SMALL, {"hidden_act": "relu"}, "hidden_act is 'relu'; known are silu"),
        (SMALL, {"hidden_size": ...}, "lacks hidden_size"),
        (SMALL, {"hidden_size": "576"}, "hidden_size is '576'; a whole number"),
        (SMALL, {"hidden_size": True}, "hidden_size is True"),
        (SMALL, {"hidden_size": 10**12}, "hidden_size is 1000000000000"),
        (SMALL, {"num_hidden_layers": 10**6}, "more than 1000 layers"),
        (SMALL, {"rms_norm_eps": 0}, "rms_norm_eps is 0; a positive number"),
        (SMALL, {"rms_norm_eps": 10**400}, "rms_norm_eps is 1000"),
        (SMALL, {"num_key_value_heads": 2}, "num_heads is a multiple of num_kv_heads"),
        (SMALL, {"pretraining_tp": 2}, "pretraining_tp is 2; only 1 is known"),
        (SMALL, {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        (SMALL, {"rope_interleaved": True}, "rope_interleaved is True"),
        (SMALL, {"mlp_bias": True}, "attention_bias is False and mlp_bias True"),
        (SMALL, {"logit_scale": 0.1}, "logit_scale is 0.1; it is not known here"),
        (SMALL, {"rope_scaling": []}, r"rope_scaling is \[\]; an object works"),
        (SMALL, {"rope_scaling": {"rope_type": "dynamic"}}, "rope_type is 'dynamic'"),
        (SMALL, {"rope_scaling": {"type": "linear"}}, "lacks rope_scaling.factor"),
        (
            SMALL,
            {"rope_scaling": {**YARN, "attention_factor": 2.0}},
            "rope_scaling.attention_factor is 2.0; 1.13863 works",
        ),
        (SMALL, {"rope_scaling": {**YARN, "truncate": False}}, "truncate is False"),
        (SMALL, {"rope_scaling": {**YARN, "mscale": 1.0}}, "mscale is 1.0"),
        (SMALL, {"rope_scaling": {**YARN, "beta_fast": 1}}, "low end is not below"),
        (
            SMALL,
            {
                "rope_scaling": {"type": "linear", "factor": 2},
                "rope_parameters": {"rope_type": "linear", "factor": 3.0},
            },
            "rope_parameters and rope_scaling differ",
        ),
        (MISTRAL, {"sliding_window": -1}, "sliding_window is -1"),
        (MISTRAL, {"layer_types": ["full_attention"]}, "layer_types is"),
        (
            QWEN,
            {"layer_types": ["full_attention"]},
            "1 entries, num_hidden_layers is 24",
        ),
        (QWEN, {"layer_types": ["sliding_attention"] * 24}, "there is no window"),
        (QWEN, {"layer_types": ["linear_attention"] * 24}, "layer_types is"),
        (QWEN, {"use_mrope": True}, "use_mrope is True"),
        (GEMMA, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (
            GEMMA,
            {"rope_parameters": {"sliding_attention": YARN, "full_attention": None}},
            "sliding_attention.rope_type is 'yarn'",
        ),
        (
            "openai-community/gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx is True",
        ),
        (
            "Qwen/Qwen3-30B-A3B",
            {"mlp_only_layers": [0]},
            r"mlp_only_layers is \[0\]; only \[\] is known",
        ),
        ("Qwen/Qwen3-30B-A3B", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
        ("Qwen/Qwen3-0.6B", {"attention_bias": True}, "attention_bias is True"),
    ],
)
def test_what_is_not_known_is_refused(name: str, changes: dict, complaint: str):
    with pytest.raises(UserError, match=complaint):
        hf_config.to_config(changed(name, **changes))


def trained_here(**changes: Any) -> TransformerConfig:
    shape = dict(vocab_size=64, max_length=32, num_layers=4, model_dim=32, mlp_dim=48)
    return TransformerConfig(
        **{**shape, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, **changes}
    )


@pytest.mark.parametrize(
    "changes, family",
    [
        ({}, "llama"),
        ({"dropout": 0.1, "dtype": "bfloat16", "remat": "full"}, "llama"),
        ({"use_bias": True, "rope_scaling": "linear", "rope_factor": 2.0}, "llama"),
        ({"layer_pattern": "L", "window": 8}, "mistral"),
        ({"qkv_bias": True, "layer_pattern": "GGL", "window": 8}, "qwen2"),
        ({"qk_norm": True}, "qwen3"),
        ({"num_experts": 4, "experts_per_token": 2}, "mixtral"),
        ({"num_experts": 4, "experts_per_token": 2, "qk_norm": True}, "qwen3_moe"),
        (
            {
                "norm": "layer",
                "positions": "learned",
                "use_bias": True,
                "activation": "gelu",
                "num_kv_heads": 4,
            },
            "gpt2",
        ),
    ],
)
def test_the_family_of_a_model_trained_here(changes: dict, family: str):
    config = trained_here(**changes)
    assert hf_config.family_of(config) == family
    back = read(hf_config.from_config(config, family))
    how = {name: getattr(config, name) for name in ("dropout", "dtype", "remat")}
    assert dataclasses.replace(back, **how) == config


@pytest.mark.parametrize(
    "changes, fields",
    [
        ({"activation": "relu2"}, "nearest, llama, has no model.activation = 'relu2'"),
        ({"mup_base_width": 16}, "model.mup_base_width = 16"),
        ({"norm": "layer"}, "nearest, llama, has no model.norm = 'layer'"),
        ({"layer_pattern": "GL", "window": 8}, "model.layer_pattern = 'GL'"),
        ({"logit_cap": 30.0}, "nearest, llama, has no model.logit_cap = 30.0"),
        ({"post_norms": True}, "model.post_norms = True"),
        ({"num_layers": 1001}, "more than 1000 layers"),
    ],
)
def test_a_model_of_no_family(changes: dict, fields: str):
    with pytest.raises(UserError, match=fields):
        hf_config.family_of(trained_here(**changes))


def test_a_model_of_another_family():
    config = read(json.loads((GOLDEN / "gemma2" / "config.json").read_text()))
    with pytest.raises(
        UserError, match="family llama have no .*model.post_norms = True"
    ):
        hf_config.from_config(config, "llama")
