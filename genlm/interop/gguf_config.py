"""GGUF, THE CONFIG: metadata -> what transformers' config.json says of the same model.

Before: gguf_settings. After: gguf_names and whoever reads a Source. What llama.cpp
takes where a key is absent is taken here too.
The keys: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
What is done with them: https://github.com/ggml-org/llama.cpp/tree/master/src/models
"""

from typing import Any, Callable

import numpy as np

from genlm.errors import UserError
from genlm.interop import gguf_blocks
from genlm.interop.gguf_header import Header, shown
from genlm.interop.gguf_settings import Settings

_FREQS = "rope_freqs.weight"
_SOFTMAX = 1  # the gating function of experts, by its number


def config_of(header: Header) -> dict[str, Any]:
    """The contents of config.json.

    Raises:
      UserError: an architecture or a setting that is not known here, or one missing.
    """
    architecture = header.text("general.architecture")
    if architecture not in _READERS:
        known = ", ".join(_READERS)
        raise UserError(
            f"{header.path}: architecture {shown(architecture)} is not supported;"
            f" these are: {known}"
        )
    if (parts := header.integer("split.count", 1)) > 1:
        raise UserError(
            f"{header.path}: is one of {parts} parts; join them with llama.cpp's"
            " llama-gguf-split --merge"
        )
    settings = Settings(header, architecture)
    config = _READERS[architecture](settings)
    settings.require_all_asked()
    for name in ("bos", "eos"):
        if (key := f"tokenizer.ggml.{name}_token_id") in header.fields:
            config[f"{name}_token_id"] = header.integer(key)
    return config


def _decoder(s: Settings) -> dict[str, Any]:
    """What all families but GPT-2 have."""
    heads, width = s.integer("attention.head_count"), s.integer("embedding_length")
    kv_heads = s.integer("attention.head_count_kv", heads)
    if heads % kv_heads:
        s.refuse("attention.head_count_kv", kv_heads)
    head = s.integer("attention.key_length", width // heads)
    if head % 2:
        s.refuse("attention.key_length", head)
    for name in ("attention.value_length", "rope.dimension_count"):
        s.require(name, head)
    s.require("attention.causal", True)
    return _outside(s) | {
        "hidden_size": width,
        "intermediate_size": s.integer("feed_forward_length"),
        "num_hidden_layers": _num_layers(s),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "max_position_embeddings": s.integer("context_length"),
        "rms_norm_eps": s.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": s.number("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(s),
    }


def _outside(s: Settings) -> dict[str, Any]:
    """What the tensors outside the layers tell."""
    tensors = s.header.tensors
    if "token_embd.weight" not in tensors:
        raise UserError(f"{s.header.path}: lacks the tensor token_embd.weight")
    vocab_size = tensors["token_embd.weight"].shape[0]
    s.require("vocab_size", vocab_size)
    is_tied = "output.weight" not in tensors
    return {"vocab_size": vocab_size, "tie_word_embeddings": is_tied}


def _num_layers(s: Settings) -> int:
    count = s.integer("block_count")
    if count > len(s.header.tensors):
        s.refuse("block_count", count)
    return count


def _rope_scaling(s: Settings) -> dict[str, Any] | None:
    """Linear (arXiv:2306.15595) or YaRN (arXiv:2309.00071), in config.json's words."""
    factor = s.number("rope.scaling.factor", 1.0)
    kind = s.text("rope.scaling.type", "linear")
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        s.refuse("rope.scaling.type", kind)
    scaling = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": s.integer(
            "rope.scaling.original_context_length"
        ),
    }
    optional = {
        "attention_factor": "rope.scaling.yarn_attn_factor",
        "beta_fast": "rope.scaling.yarn_beta_fast",
        "beta_slow": "rope.scaling.yarn_beta_slow",
    }
    return scaling | {k: s.number(n) for k, n in optional.items() if s.has(n)}


def _llama(s: Settings) -> dict[str, Any]:
    """Llama, Mistral or Mixtral.

    The converter drops Mistral's sliding window; where a file gives one, it is kept.
    """
    config, tensors = _decoder(s), s.header.tensors
    config["hidden_act"] = "silu"
    if (frequencies := _llama3_scaling(s, config)) is not None:
        config["rope_scaling"] = frequencies
    window = s.integer("attention.sliding_window", 0, least=0)
    experts = s.integer("expert_count", 0, least=0)
    used = s.integer("expert_used_count", 0, least=0)
    if experts:
        if not 1 <= used <= experts:
            s.refuse("expert_used_count", used)
        s.require("expert_gating_func", _SOFTMAX)
        config |= {"num_local_experts": experts, "num_experts_per_tok": used}
        config["sliding_window"] = window or None
        return _named("mixtral", "MixtralForCausalLM", config)
    if window:
        config["sliding_window"] = window
        return _named("mistral", "MistralForCausalLM", config)
    config["attention_bias"] = "blk.0.attn_q.bias" in tensors
    config["mlp_bias"] = "blk.0.ffn_gate.bias" in tensors
    return _named("llama", "LlamaForCausalLM", config)


def _llama3_scaling(s: Settings, config: dict[str, Any]) -> dict[str, Any] | None:
    """The rope_scaling of Llama 3.1 and later, from what divides its frequencies.

    The file has the divisors only. They are those of factor, low 1, high 4 and 8192
    positions, as in every Llama 3, or they are refused.
    """
    tensor = s.header.tensors.get(_FREQS)
    if tensor is None:
        return None
    half = config["head_dim"] // 2
    wrong = UserError(f"{s.header.path}: {_FREQS} is not the scaling of Llama 3")
    if tensor.shape != (half,) or config["rope_scaling"] is not None:
        raise wrong
    rows = gguf_blocks.rows(s.header.data, tensor.kind, tensor.start, (1, half))
    divisors = rows[0].astype(np.float64)
    if not np.all(np.isfinite(divisors) & (divisors > 0.5)):
        raise wrong
    scaling = {
        "rope_type": "llama3",
        "factor": round(float(divisors.max()), 4),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    expected = llama3_divisors(config["rope_theta"], config["head_dim"], scaling)
    if not np.allclose(divisors, expected, rtol=1e-5, atol=0):
        raise wrong
    return scaling if scaling["factor"] != 1.0 else None


def llama3_divisors(theta: float, head: int, scaling: dict[str, Any]) -> np.ndarray:
    """[head / 2] what Llama 3.1 divides each rotary frequency by.

    1 for waves that fit `high_freq_factor` times into the original length, `factor` for
    those that do not fit `low_freq_factor` times, and smooth between.
    https://github.com/meta-llama/llama-models/blob/main/models/llama3/model.py
    """
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    frequencies = theta ** -(np.arange(0, head, 2) / head)
    fits = scaling["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    smooth = np.clip((fits - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / scaling["factor"] + smooth)


def _qwen2(s: Settings) -> dict[str, Any]:
    own = {"hidden_act": "silu", "use_sliding_window": False}
    return _named("qwen2", "Qwen2ForCausalLM", _decoder(s) | own)


def _qwen3(s: Settings) -> dict[str, Any]:
    own = {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False}
    return _named("qwen3", "Qwen3ForCausalLM", _decoder(s) | own)


def _qwen3_moe(s: Settings) -> dict[str, Any]:
    """All layers have experts, whose weights are made to add up to 1: llama.cpp knows
    no other."""
    s.require("expert_gating_func", _SOFTMAX)
    experts = {
        "num_experts": s.integer("expert_count"),
        "num_experts_per_tok": s.integer("expert_used_count"),
        "moe_intermediate_size": s.integer("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    return _named("qwen3_moe", "Qwen3MoeForCausalLM", _qwen3(s) | experts)


def _gemma2(s: Settings) -> dict[str, Any]:
    config = _decoder(s) | {
        "attn_logit_softcapping": s.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": s.number("final_logit_softcapping", 30.0),
        "sliding_window": s.integer("attention.sliding_window", 4096),
    }
    config |= _gemma(s, config, period=2, largest=46)
    return _named("gemma2", "Gemma2ForCausalLM", config)


def _gemma3(s: Settings) -> dict[str, Any]:
    """The text model; the converter cuts its embedding to the tokens there are."""
    config = _decoder(s) | {
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "rope_local_base_freq": s.number("rope.freq_base_swa", 10000.0),
        "sliding_window": s.integer("attention.sliding_window"),
    }
    if s.has("final_logit_softcapping"):
        config["final_logit_softcapping"] = s.number("final_logit_softcapping")
    config |= _gemma(s, config, period=6, largest=62)
    return _named("gemma3_text", "Gemma3ForCausalLM", config)


def _gemma(
    s: Settings, config: dict[str, Any], period: int, largest: int
) -> dict[str, Any]:
    """What the Gemmas share. Of every `period` layers the last looks at everything; the
    model of `largest` layers, the 27B, alone scales queries by its width a head."""
    period = s.integer("attention.sliding_window_pattern", period)
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    per_head = config["hidden_size"] // heads
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "query_pre_attn_scalar": per_head if layers == largest else config["head_dim"],
        "layer_types": [
            "sliding_attention" if i % period < period - 1 else "full_attention"
            for i in range(layers)
        ],
    }


def _gpt2(s: Settings) -> dict[str, Any]:
    length, width = s.integer("context_length"), s.integer("embedding_length")
    if width % (heads := s.integer("attention.head_count")):
        s.refuse("attention.head_count", heads)
    config = _outside(s) | {
        "n_layer": _num_layers(s),
        "n_head": heads,
        "n_embd": width,
        "n_inner": s.integer("feed_forward_length"),
        "n_positions": length,
        "n_ctx": length,
        "layer_norm_epsilon": s.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
    }
    return _named("gpt2", "GPT2LMHeadModel", config)


def _named(kind: str, class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    return config | {"architectures": [class_name], "model_type": kind}


_READERS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3moe": _qwen3_moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
}
