"""A CONFIG.JSON of transformers <-> the fields of TransformerConfig.

A family has keys that are one field each, parts that take several keys
(`config_parts`), and fields that all its models share. `from_config` reads back what it
wrote, and what comes back otherwise is an error: no family is given a model that is
not of it.
"""

import contextlib
import dataclasses
import functools
from typing import Any, Callable, Mapping, NamedTuple

from genlm.errors import UserError
from genlm.interop import config_parts as parts
from genlm.interop.config_keys import Keys
from genlm.model.config import TransformerConfig
from genlm.model.sizes import HOW

Fields = dict[str, Any]
_MOST_LAYERS = 1000
_REQUIRED = [
    field.name
    for field in dataclasses.fields(TransformerConfig)
    if field.default is dataclasses.MISSING
]


class Key(NamedTuple):
    """A key that is one field: how it is checked, and what it is where config.json has
    none (... if it must), as in transformers. None stands for what `_DERIVED` says."""

    name: str
    field: str
    kind: str | Mapping[str, str] = "count"  # or 'number', 'flag', 'cap', or its words
    default: Any = ...


class Part(NamedTuple):
    """Several keys, as two functions; `read` gets the fields read before."""

    read: Callable[[Keys, Fields], Fields]
    write: Callable[[TransformerConfig], Fields]


class Family(NamedTuple):
    """Models of one model_type."""

    architecture: str  # its class in transformers
    keys: tuple[Key, ...]
    parts: tuple[Part, ...]
    fields: Fields  # that all its models share, where they are not the defaults


_GATED = {"silu": "swiglu", "swish": "swiglu", "gelu_pytorch_tanh": "geglu"}
_GATED |= {"gelu_new": "geglu"}
_PLAIN = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu"}
_DERIVED: dict[str, Callable[[Fields], int]] = {
    "num_kv_heads": lambda f: f["num_heads"],
    "head_dim": lambda f: max(f["model_dim"] // f["num_heads"], 1),
    "mlp_dim": lambda f: 4 * f["model_dim"],
}
_SIZES = (
    Key("vocab_size", "vocab_size"),
    Key("max_position_embeddings", "max_length"),
    Key("num_hidden_layers", "num_layers"),
    Key("hidden_size", "model_dim"),
    Key("num_attention_heads", "num_heads"),
    Key("num_key_value_heads", "num_kv_heads", default=None),
    Key("rms_norm_eps", "norm_eps", "number", 1e-6),
)
_HEAD = Key("head_dim", "head_dim", default=None)
_MLP = Key("intermediate_size", "mlp_dim")
_ACTIVATION = Key("hidden_act", "activation", _GATED, "silu")
_TIED = Key("tie_word_embeddings", "tie_embeddings", "flag", True)
_FREE = _TIED._replace(default=False)
_LLAMA = (*_SIZES, _HEAD, _MLP, _ACTIVATION, _FREE)
_MIXTRAL = (
    *_LLAMA,
    Key("num_local_experts", "num_experts", default=8),
    Key("num_experts_per_tok", "experts_per_token", default=2),
)
_QWEN3 = (*_SIZES, _HEAD._replace(default=128), _MLP, _ACTIVATION, _FREE)
_QWEN3_MOE = (
    *_SIZES,
    _HEAD,
    Key("moe_intermediate_size", "mlp_dim"),
    _ACTIVATION,
    _FREE,
    Key("num_experts_per_tok", "experts_per_token", default=8),
    Key("norm_topk_prob", "normalize_experts", "flag", False),
)
_GEMMA = (
    *_SIZES,
    _HEAD._replace(default=256),
    _MLP,
    Key("hidden_activation", "activation", _GATED, "gelu_pytorch_tanh"),
    _TIED,
)
_SCORE_CAP = Key("attn_logit_softcapping", "attention_cap", "cap", None)
_LOGIT_CAP = Key("final_logit_softcapping", "logit_cap", "cap", None)
_GPT2 = (
    Key("vocab_size", "vocab_size"),
    Key("n_positions", "max_length", default=1024),
    Key("n_layer", "num_layers"),
    Key("n_embd", "model_dim"),
    Key("n_head", "num_heads"),
    Key("n_inner", "mlp_dim", default=None),
    Key("layer_norm_epsilon", "norm_eps", "number", 1e-5),
    Key("activation_function", "activation", _PLAIN, "gelu_new"),
    _TIED,
)


def _read_gemma(keys: Keys, fields: Fields) -> Fields:
    keys.take("hidden_act", None)  # transformers reads hidden_activation
    return {
        "attention_scale": keys.number("query_pre_attn_scalar", 256) ** -0.5,
        "embedding_scale": float(fields["model_dim"]) ** 0.5,
    }


def _write_gemma(c: TransformerConfig) -> Fields:
    return {"query_pre_attn_scalar": max(round(c.query_scale**-2), 1)}


def _read_qwen_experts(keys: Keys, fields: Fields) -> Fields:
    """transformers 4 and the published files say num_experts, 5 num_local_experts."""
    keys.take("intermediate_size", None)  # of layers without experts: there are none
    return {
        "num_experts": keys.count("num_experts", keys.take("num_local_experts", 128))
    }


def _write_qwen_experts(c: TransformerConfig) -> Fields:
    return {
        "num_experts": max(c.num_experts, 1),
        "intermediate_size": c.mlp_dim,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _rope(theta: float) -> Part:
    return Part(functools.partial(parts.read_rope, theta=theta), parts.write_rope)


def _window(default: int | None) -> Part:
    read = functools.partial(parts.read_window, default=default)
    return Part(read, parts.write_window)


def _gemma_window(every: int) -> Part:
    read = functools.partial(parts.read_gemma_window, every=every)
    return Part(read, parts.write_gemma_window)


_QWEN_WINDOW = Part(parts.read_qwen_window, parts.write_qwen_window)
_ROPE = _rope(10_000.0)
_GEMMA_SCALES = Part(_read_gemma, _write_gemma)
_SANDWICH = {"unit_offset": True, "post_norms": True}
FAMILIES = {
    "llama": Family(
        "LlamaForCausalLM",
        _LLAMA,
        (_ROPE, Part(parts.read_biases, parts.write_biases)),
        {},
    ),
    "mistral": Family("MistralForCausalLM", _LLAMA, (_ROPE, _window(4096)), {}),
    "qwen2": Family(
        "Qwen2ForCausalLM", _LLAMA, (_ROPE, _QWEN_WINDOW), {"qkv_bias": True}
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM", _QWEN3, (_ROPE, _QWEN_WINDOW), {"qk_norm": True}
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        (
            *_GEMMA,
            _SCORE_CAP._replace(default=50.0),
            _LOGIT_CAP._replace(default=30.0),
        ),
        (_ROPE, _gemma_window(2), _GEMMA_SCALES),
        _SANDWICH,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        (*_GEMMA, _SCORE_CAP, _LOGIT_CAP),
        (
            Part(parts.read_two_ropes, parts.write_two_ropes),
            _gemma_window(6),
            _GEMMA_SCALES,
        ),
        {**_SANDWICH, "qk_norm": True},
    ),
    "mixtral": Family(
        "MixtralForCausalLM", _MIXTRAL, (_rope(1_000_000.0), _window(None)), {}
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        _QWEN3_MOE,
        (
            _ROPE,
            Part(parts.read_switched_window, parts.write_switched_window),
            Part(_read_qwen_experts, _write_qwen_experts),
        ),
        {"qk_norm": True},
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        _GPT2,
        (),
        {"norm": "layer", "positions": "learned", "use_bias": True},
    ),
}


def to_config(config: Mapping[str, Any]) -> Fields:
    """The fields of TransformerConfig that a config.json stands for.

    Raises:
      UserError: its model_type is not known, or a key says what is not known here.
    """
    keys = Keys(config)
    family = keys.word("model_type", FAMILIES)
    fields: Fields = dict(family.fields)
    for key in family.keys:
        fields[key.field] = _read(keys, key)
    if fields["num_layers"] > _MOST_LAYERS:
        raise UserError(f"config.json: more than {_MOST_LAYERS} layers")
    for field, derive in _DERIVED.items():
        if field not in fields or fields[field] is None:
            fields[field] = derive(fields)
    for part in family.parts:
        fields |= part.read(keys, fields)
    keys.done()
    TransformerConfig(**fields)
    return fields


def _read(keys: Keys, key: Key) -> Any:
    """The field of a key, checked."""
    is_absent = key.name not in keys
    if is_absent and key.default is not ...:
        value = key.default
    else:
        value = keys.take(key.name)
    if key.kind == "cap" and value is None:
        return 0.0
    if value is None and key.default is None:
        return None
    found = Keys({key.name: value})
    if isinstance(key.kind, str):
        kind = {"count": found.count, "flag": found.flag}
        return kind[key.kind](key.name) if key.kind in kind else found.number(key.name)
    return found.word(key.name, key.kind)


def from_config(config: TransformerConfig, family: str) -> Fields:
    """The config.json of a model, as transformers 4 (4.53 and later) and 5 read it.

    How it is computed (dtype, dropout, remat, scan_layers) is no part of it. The ids of
    control tokens are null, lest transformers take a family's usual ones; who has a
    tokenizer puts its own.

    Raises:
      UserError: models of that family cannot have that config; names the fields.
    """
    written, unlike = _compare(config, family)
    if unlike:
        fields = ", ".join(f"model.{n} = {getattr(config, n)!r}" for n in unlike)
        raise UserError(f"models of the family {family} have no {fields}")
    return written


def family_of(config: TransformerConfig) -> str:
    """The first family that such a model is one of, Llama before others.

    Raises:
      UserError: there is none; names the nearest, and the fields that differ.
    """
    unlike = {"llama": _compare(config, "llama")[1]}
    for family in FAMILIES:
        with contextlib.suppress(UserError):  # it cannot be written at all
            unlike[family] = _compare(config, family)[1]
    nearest = min(unlike, key=lambda family: len(unlike[family]))
    if not unlike[nearest]:
        return nearest
    fields = ", ".join(f"model.{n} = {getattr(config, n)!r}" for n in unlike[nearest])
    raise UserError(
        f"no family of transformers has such models; the nearest, {nearest}, has no"
        f" {fields}"
    )


def _compare(config: TransformerConfig, family: str) -> tuple[Fields, list[str]]:
    """The config.json that a family has for a model, and the fields that it cannot
    say: they read back otherwise."""
    about = FAMILIES[family]
    written: Fields = {
        "architectures": [about.architecture],
        "model_type": family,
        **{f"{name}_token_id": None for name in ("bos", "eos", "pad")},
    }
    for key in about.keys:
        value = getattr(config, key.field)
        if not isinstance(key.kind, str):
            words = [word for word, ours in key.kind.items() if ours == value]
            written[key.name] = words[0] if words else key.default
        elif key.kind == "cap":
            written[key.name] = value or None
        elif key.kind == "count":
            written[key.name] = max(value, 1)
        else:
            written[key.name] = value
    for part in about.parts:
        written |= part.write(config)
    back = _canonical(TransformerConfig(**to_config(written)))
    unlike = [n for n, value in _canonical(config).items() if back[n] != value]
    return written, unlike


def _canonical(c: TransformerConfig) -> Fields:
    """What a config says of the model itself, each in one way only."""
    required: Fields = {n: 2 for n in _REQUIRED}
    plain = TransformerConfig(**required)
    changes: Fields = {n: getattr(plain, n) for n in _unread(c)}
    changes["layer_pattern"] = parts.shortest(c.kinds)
    changes["attention_scale"] = c.query_scale
    if "rope_local_theta" not in changes and c.rope_scaling == "none":
        changes["rope_local_theta"] = c.rope_local_theta or c.rope_theta
    return dataclasses.asdict(dataclasses.replace(c, **changes))


def _unread(c: TransformerConfig) -> set[str]:
    """The fields that change nothing in what such a model computes."""
    names = set(HOW)
    if c.width_ratio == 1:
        names |= {"mup_base_width"}
    if "L" not in c.kinds:
        names |= {"window", "rope_local_theta"}
    if c.positions != "rotary":
        names |= {"rope_theta", "rope_scaling", "rope_local_theta"}
    if c.positions != "rotary" or c.rope_scaling == "none":
        names |= {"rope_factor"}
    if c.positions != "rotary" or c.rope_scaling in ("none", "linear"):
        names |= {"rope_low", "rope_high", "rope_original_length"}
    if not c.num_experts:
        names |= {"experts_per_token", "normalize_experts"}
    return names
