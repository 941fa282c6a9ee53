"""PARTS OF A CONFIG.JSON that take more than one key: rotary positions, windows,
biases. Each part is two functions: of a config.json's keys to fields of
TransformerConfig, and back.

transformers 4 writes rope_theta and rope_scaling, 5 writes rope_parameters: both are
read, and what both read is written (the former).
"""

import math
from typing import Any

from genlm.errors import UserError
from genlm.interop.config_keys import Keys, refuse
from genlm.model.config import TransformerConfig
from genlm.model.rope import Scaling

Fields = dict[str, Any]
_SCALINGS = {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
_LAYERS = {"full_attention": "G", "sliding_attention": "L"}
_FULL, _SLIDING = _LAYERS


def read_rope(keys: Keys, fields: Fields, theta: float) -> Fields:
    """Rotary positions, the same in all layers.

    Args:
      fields: what was read before, as for all parts.
      theta: what transformers takes where config.json says nothing.
    """
    new = keys.object("rope_parameters")
    old_theta = keys.number("rope_theta", theta)
    old = keys.object("rope_scaling")
    length = fields["max_length"]
    found = _read_scaling(old or Keys({}), old_theta, length)
    if new is None:
        return found
    new_found = _read_scaling(new, old_theta, length)
    if old is not None and found != new_found:
        raise UserError("config.json: rope_parameters and rope_scaling differ")
    return new_found


def write_rope(c: TransformerConfig) -> Fields:
    return {"rope_theta": c.rope_theta, "rope_scaling": _write_scaling(c)}


def read_two_ropes(keys: Keys, fields: Fields) -> Fields:
    """Rotary positions of Gemma 3: local layers have their own angle, never scaled."""
    new = keys.object("rope_parameters")
    if new is None:
        local = keys.number("rope_local_base_freq", 10_000.0)
        of_all = read_rope(keys, fields, 1_000_000.0)
        return {**of_all, "rope_local_theta": local}
    length = fields["max_length"]
    parts = {kind: new.object(kind) or Keys({}) for kind in _LAYERS}
    new.done()
    of_global = _read_scaling(parts[_FULL], 1_000_000.0, length)
    of_local = _read_scaling(parts[_SLIDING], 10_000.0, length)
    if of_local["rope_scaling"] != "none":
        kind = of_local["rope_scaling"]
        refuse("rope_parameters.sliding_attention.rope_type", kind, "default works")
    return {**of_global, "rope_local_theta": of_local["rope_theta"]}


def write_two_ropes(c: TransformerConfig) -> Fields:
    return {**write_rope(c), "rope_local_base_freq": c.rope_local_theta or c.rope_theta}


def _read_scaling(keys: Keys, theta: float, length: int) -> Fields:
    """Of rope_scaling or rope_parameters; `length` is how long a text may be."""
    old_word = keys.take("type", "default")
    word = keys.take("rope_type", old_word)
    kind = Keys({"rope_type": word}, "rope_scaling").word("rope_type", _SCALINGS)
    fields = {"rope_theta": keys.number("rope_theta", theta), "rope_scaling": kind}
    if kind != "none":
        fields["rope_factor"] = keys.number("factor")
    if kind == "llama3":
        fields["rope_low"] = keys.number("low_freq_factor")
        fields["rope_high"] = keys.number("high_freq_factor")
    if kind == "yarn":
        fields["rope_low"] = keys.number("beta_slow", 1)
        fields["rope_high"] = keys.number("beta_fast", 32)
        _require_usual_yarn(keys, fields["rope_factor"])
    if kind in ("llama3", "yarn"):
        name = "original_max_position_embeddings"
        fields["rope_original_length"] = keys.count(name, length)
        if not fields["rope_low"] < fields["rope_high"]:
            raise UserError(
                "config.json: a rope scaling's low end is not below its high"
            )
    keys.done()
    return fields


def _require_usual_yarn(keys: Keys, factor: float) -> None:
    """Make sure that cosine and sine are longer by what `rope.Scaling` says."""
    usual = Scaling("yarn", factor).length
    given = keys.take("attention_factor", None)
    if given is not None and (
        type(given) not in (int, float) or not math.isclose(given, usual, rel_tol=1e-6)
    ):
        refuse(keys.path("attention_factor"), given, f"{usual:.6g} works")
    if keys.take("truncate", True) is not True:
        refuse(keys.path("truncate"), False, "true works")
    for name in ("mscale", "mscale_all_dim"):
        if (value := keys.take(name, None)) not in (None, 0):
            refuse(keys.path(name), value, "it is not known here")


def _write_scaling(c: TransformerConfig) -> Fields | None:
    if c.rope_scaling == "none":
        return None
    written = {"rope_type": c.rope_scaling, "factor": c.rope_factor}
    if c.rope_scaling == "llama3":
        written |= {"low_freq_factor": c.rope_low, "high_freq_factor": c.rope_high}
    if c.rope_scaling == "yarn":
        written |= {"beta_slow": c.rope_low, "beta_fast": c.rope_high}
    if c.rope_scaling in ("llama3", "yarn"):
        written["original_max_position_embeddings"] = c.rope_original_length
    return written


def read_window(keys: Keys, fields: Fields, default: int | None) -> Fields:
    """Of Mistral and Mixtral: one window for all layers, or null."""
    window = keys.take("sliding_window", default)
    return _windows("G" if window is None else "L", window)


def write_window(c: TransformerConfig) -> Fields:
    return {"sliding_window": c.window if "L" in c.kinds else None}


def read_switched_window(keys: Keys, fields: Fields) -> Fields:
    """Of Qwen 3 with experts: a switch, and one window for all layers."""
    is_used = keys.flag("use_sliding_window", False)
    window = keys.take("sliding_window", 4096)
    keys.take("max_window_layers", None)  # transformers does not read it here
    return _windows("L" if is_used and window is not None else "G", window)


def write_switched_window(c: TransformerConfig) -> Fields:
    return {"use_sliding_window": "L" in c.kinds, **write_window(c)}


def read_qwen_window(keys: Keys, fields: Fields) -> Fields:
    """Of Qwen: a switch, and a window for the layers listed, or for those after the
    first max_window_layers."""
    num_layers = fields["num_layers"]
    is_used = keys.flag("use_sliding_window", False)
    window = keys.take("sliding_window", 4096)
    first = keys.take("max_window_layers", 28)
    is_used = is_used and window is not None
    kinds = _read_layers(keys, num_layers)
    if kinds and "L" in kinds and not is_used:
        raise UserError(
            "config.json: layer_types has sliding_attention, but there is no window"
        )
    if not kinds and is_used:
        if type(first) is not int or first < 0:
            refuse("max_window_layers", first, "a whole number from 0 up works")
        kinds = ("G" * min(first, num_layers)).ljust(num_layers, "L")
    return _windows(kinds or "G", window)


def write_qwen_window(c: TransformerConfig) -> Fields:
    is_used = "L" in c.kinds
    return {
        "use_sliding_window": is_used,
        "sliding_window": c.window if is_used else None,
        "max_window_layers": (c.kinds + "L").index("L"),
        "layer_types": _write_layers(c),
    }


def read_gemma_window(keys: Keys, fields: Fields, every: int) -> Fields:
    """Of Gemma: the layers listed, or each but every `every`-th, are local."""
    num_layers = fields["num_layers"]
    for name in ("sliding_window_pattern", "_sliding_window_pattern"):
        every = keys.count(name, every)
    kinds = _read_layers(keys, num_layers) or "".join(
        "L" if i % every else "G" for i in range(1, num_layers + 1)
    )
    return _windows(kinds, keys.take("sliding_window", 4096))


def write_gemma_window(c: TransformerConfig) -> Fields:
    window = c.window if "L" in c.kinds else None
    return {"sliding_window": window, "layer_types": _write_layers(c)}


def _windows(kinds: str, window: Any) -> Fields:
    """Of layers of those kinds; `window` is checked where one is local."""
    if "L" not in kinds:
        return {"layer_pattern": "G", "window": 0}
    window = Keys({"sliding_window": window}).count("sliding_window")
    return {"layer_pattern": shortest(kinds), "window": window}


def _read_layers(keys: Keys, num_layers: int) -> str:
    """A letter for each of layer_types; '' where there are none."""
    found = keys.take("layer_types", None)
    if found is None:
        return ""
    is_list = isinstance(found, list) and all(isinstance(x, str) for x in found)
    if not is_list or not set(found) <= set(_LAYERS):
        refuse("layer_types", found, f"a list of {' and '.join(_LAYERS)} works")
    if len(found) != num_layers:
        raise UserError(
            f"config.json: layer_types has {len(found)} entries, num_hidden_layers is"
            f" {num_layers}"
        )
    return "".join(_LAYERS[x] for x in found)


def _write_layers(c: TransformerConfig) -> list[str]:
    words = {letter: word for word, letter in _LAYERS.items()}
    return [words[letter] for letter in c.kinds]


def shortest(kinds: str) -> str:
    """The shortest pattern that gives `kinds` when it is repeated and cut."""
    for end in range(1, len(kinds)):
        if all(kinds[i] == kinds[i - end] for i in range(end, len(kinds))):
            return kinds[:end]
    return kinds


def read_biases(keys: Keys, fields: Fields) -> Fields:
    """Of Llama: in attention and mlp, or in neither."""
    attention = keys.flag("attention_bias", False)
    mlp = keys.flag("mlp_bias", False)
    if attention != mlp:
        raise UserError(
            f"config.json: attention_bias is {attention} and mlp_bias {mlp}; both or"
            " none works"
        )
    return {"use_bias": attention}


def write_biases(c: TransformerConfig) -> Fields:
    return {"attention_bias": c.use_bias, "mlp_bias": c.use_bias}
