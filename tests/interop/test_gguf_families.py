"""Every family: a small model of transformers with random weights, written as
llama.cpp's converter writes it, comes back as it was, and computes the same.
"""

import json

import numpy as np
import pytest

from genlm.interop import hf_config, weights
from genlm.interop.gguf import open_gguf
from genlm.model.config import TransformerConfig
from tests.interop import gguf_files
from tests.interop.test_families import TOLERANCE, logits_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.numpy")

_SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 16.0,
}
_EXPERTS = {"num_experts_per_tok": 2}
# Name of the case: model_type, architecture in the file, settings beside _SHAPE's.
CASES = {
    "llama": ("llama", "llama", {"rope_theta": 50000.0}),
    "llama, tied": ("llama", "llama", {"tie_word_embeddings": True}),
    "llama, wide heads": ("llama", "llama", {"head_dim": 16}),
    "llama, biases": ("llama", "llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3.1": (
        "llama",
        "llama",
        {"rope_theta": 500000.0, "rope_scaling": _LLAMA3, "head_dim": 32},
    ),
    "mistral": ("mistral", "llama", {"sliding_window": 8}),
    "mixtral": ("mixtral", "llama", {"num_local_experts": 4} | _EXPERTS),
    "qwen2": ("qwen2", "qwen2", {"rope_theta": 1e6}),
    "qwen2, linear": (
        "qwen2",
        "qwen2",
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "qwen2, yarn": ("qwen2", "qwen2", {"rope_scaling": _YARN}),
    "qwen3": ("qwen3", "qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3_moe": (
        "qwen3_moe",
        "qwen3moe",
        {
            "head_dim": 16,
            "num_experts": 4,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
        }
        | _EXPERTS,
    ),
    "gemma2": (
        "gemma2",
        "gemma2",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8},
    ),
    "gemma2, caps": (
        "gemma2",
        "gemma2",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        "gemma3",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "num_hidden_layers": 7,
            "rope_theta": 1e6,
            "rope_local_base_freq": 10000.0,
        },
    ),
    "gpt2": (
        "gpt2",
        "gpt2",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 128},
    ),
}


def _keys(config) -> dict:
    """The settings as the converter writes them."""
    if config.model_type == "gpt2":
        return {
            "{arch}.block_count": config.n_layer,
            "{arch}.context_length": config.n_positions,
            "{arch}.embedding_length": config.n_embd,
            "{arch}.feed_forward_length": 4 * config.n_embd,
            "{arch}.attention.head_count": config.n_head,
            "{arch}.attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    keys = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
    }
    if head := getattr(config, "head_dim", None):
        keys |= {"attention.key_length": head, "attention.value_length": head}
    for theirs, ours in {
        "sliding_window": "attention.sliding_window",
        "num_local_experts": "expert_count",
        "num_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
    }.items():
        if (value := getattr(config, theirs, None)) is not None:
            keys[ours] = value
    return {"{arch}." + k: v for k, v in (keys | _rope_keys(config)).items()}


def _rope_keys(config) -> dict:
    rope = config.rope_parameters
    keys = {}
    if "full_attention" in rope:
        if config.model_type == "gemma3_text":
            keys["rope.freq_base_swa"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    keys["rope.freq_base"] = float(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        keys["rope.scaling.type"] = rope["rope_type"]
        keys["rope.scaling.factor"] = rope["factor"]
    if rope["rope_type"] == "yarn":
        length = rope["original_max_position_embeddings"]
        keys["rope.scaling.original_context_length"] = length
        keys["rope.scaling.yarn_beta_fast"] = rope["beta_fast"]
    return keys


def _make(case: str, folder):
    """A model with random weights, its checkpoint, and the GGUF file of it."""
    kind, architecture, own = CASES[case]
    shape = {"vocab_size": 96} if kind == "gpt2" else _SHAPE
    config = transformers.AutoConfig.for_model(kind, **(shape | own))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder / "theirs")
    tensors = safetensors.load_file(folder / "theirs" / "model.safetensors")
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    kv = getattr(config, "num_key_value_heads", heads)
    stored = gguf_files.converted(tensors, architecture, layers, heads, kv)
    if case == "llama 3.1":
        stored["rope_freqs.weight"] = _divisors(config)
    path = folder / "model.gguf"
    gguf_files.write(path, architecture, _keys(config), stored)
    return model, tensors, path


def _divisors(config) -> np.ndarray:
    """What the frequencies of the scaled model are divided by, from transformers."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = config.rope_parameters["rope_theta"] ** -(
        torch.arange(0, config.head_dim, 2) / config.head_dim
    )
    return (plain / scaled).numpy()


@pytest.mark.parametrize("case", CASES)
def test_a_family_comes_back_as_it_was(case, tmp_path):
    model, tensors, path = _make(case, tmp_path)
    source = open_gguf(path)
    assert source.shapes == {name: array.shape for name, array in tensors.items()}
    read = {name: source.read(name) for name in source.shapes}
    for name, array in tensors.items():
        assert read[name].flags.c_contiguous and read[name].dtype == np.float32
        np.testing.assert_allclose(read[name], array, rtol=0, atol=3e-7, err_msg=name)
    folder = tmp_path / "ours"
    folder.mkdir()
    safetensors.save_file(read, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(source.config))
    ours = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.arange(40)[None] * 7 % 96
    with torch.no_grad():
        difference = (model(tokens).logits - ours(tokens).logits).abs().max()
    assert difference < TOLERANCE
    for (name, one), other in zip(model.named_buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_genlm_computes_what_transformers_does(case, tmp_path):
    """The file as `genlm import` takes it, padded on the left and not, past windows."""
    model, _, path = _make(case, tmp_path)
    source = open_gguf(path)
    config = TransformerConfig(**hf_config.to_config(source.config))
    params = weights.load(source, config)
    tokens = np.random.default_rng(0).integers(1, 96, (2, 40))
    mask = np.ones_like(tokens)
    mask[1, :11] = 0
    positions = np.maximum(np.cumsum(mask, -1) - 1, 0)
    with torch.no_grad():
        theirs = model(
            torch.tensor(tokens),
            attention_mask=torch.tensor(mask),
            position_ids=torch.tensor(positions),
        ).logits
    theirs = theirs.numpy() * mask[..., None]
    ours = logits_of(params, config, tokens, mask)
    assert np.abs(ours - theirs).max() <= TOLERANCE
