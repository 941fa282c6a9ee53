"""AN ADAPTER_CONFIG.JSON of PEFT: what it says of a LoRA change, and one of ours.

Each key is read, or known to change nothing once the adapter is trained, or an error:
nothing is dropped silently. Sources: peft/config.py and peft/tuners/lora/config.py.
"""

from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Sequence

from genlm.errors import UserError
from genlm.interop import json_object
from genlm.interop.json_object import shown
from genlm.model.lora import LoraConfig

NAME = "adapter_config.json"
_LARGEST = 2**31 - 1
# How it was trained, where it is from, and keys of what `_FIXED` or the tensors decide.
_HARMLESS = frozenset("""
    auto_mapping exclude_modules fan_in_fan_out inference_mode layers_pattern
    megatron_core peft_version qalora_group_size revision runtime_config
    """.split())
# What else must be so, because no other change is known here; null is always fine.
_FIXED: dict[str, tuple[Any, ...]] = {
    "task_type": ("CAUSAL_LM",),
    # other starts take their part out of the base, and PEFT does so again on loading
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "alora_invocation_tokens": (),
    "alpha_pattern": ({},),
    "arrow_config": (),
    "bias": ("none",),
    "corda_config": (),
    "ensure_weight_tying": (False,),
    "eva_config": (),
    "kasa_config": (),
    "layer_replication": (),
    "loftq_config": ({},),
    "lora_bias": (False,),
    "lora_ga_config": (),
    "megatron_config": (),
    "modules_to_save": ([],),
    "monteclora_config": (),
    "rank_pattern": ({},),
    "target_parameters": ([],),
    "trainable_token_indices": ([], {}),
    "use_bdlora": (False,),
    "use_qalora": (False,),
    "velora_config": (),
}


class Settings(NamedTuple):
    """What an adapter_config.json says.

    targets: ends of the names of the modules that are changed. None where a regular
      expression, 'all-linear' or exclude_modules had a part in it: a stranger's
      expression is not run, as it may take for ever, and the tensors say the same.
    base: the name of the model that is changed; '' where it is not said.
    """

    rank: int
    alpha: float
    rank_stabilised: bool
    dropout: float
    dora: bool
    targets: tuple[str, ...] | None
    base: str


def read(folder: Path, num_layers: int) -> Settings:
    """What the adapter_config.json in `folder` says, all of it checked.

    Args:
      num_layers: of the base.

    Raises:
      UserError: it is damaged, or asks for what cannot be held exactly (names it).
    """
    path = folder / NAME
    keys = {k: v for k, v in json_object.read(path).items() if v is not None}
    if (kind := keys.pop("peft_type", None)) != "LORA":
        _refuse(path, "peft_type", kind, "'LORA' works")
    settings = Settings(
        rank=_rank(path, keys.pop("r", None)),
        alpha=_alpha(path, keys.pop("lora_alpha", None)),
        rank_stabilised=_flag(path, "use_rslora", keys),
        dropout=_dropout(path, keys.pop("lora_dropout", 0.0)),
        dora=_flag(path, "use_dora", keys),
        targets=_targets(path, keys.pop("target_modules", None), keys),
        base=_base(path, keys.pop("base_model_name_or_path", "")),
    )
    _require_all_layers(path, keys.pop("layers_to_transform", []), num_layers)
    for key in sorted(keys.keys() - _HARMLESS):
        if key not in _FIXED:
            _refuse(path, key, keys[key], "it is not known here what that changes")
        if not any(_is_same(keys[key], value) for value in _FIXED[key]):
            works = [f"{shown(value)} works" for value in _FIXED[key]]
            _refuse(path, key, keys[key], ", ".join(["null works", *works]))
    return settings


def _is_same(value: Any, fixed: Any) -> bool:
    return type(value) is type(fixed) and value == fixed


def _rank(path: Path, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        _refuse(path, "r", value, f"a whole number from 1 to {_LARGEST} works")
    return value


def _alpha(path: Path, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e30:
        _refuse(path, "lora_alpha", value, "a positive number works")
    return float(value)


def _flag(path: Path, key: str, keys: dict[str, Any]) -> bool:
    value = keys.pop(key, False)
    if type(value) is not bool:
        _refuse(path, key, value, "true or false works")
    return value


def _dropout(path: Path, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1:
        _refuse(path, "lora_dropout", value, "a number from 0 and below 1 works")
    return float(value)


def _targets(path: Path, value: Any, keys: dict[str, Any]) -> tuple[str, ...] | None:
    if value is None or isinstance(value, str):
        return None
    if not isinstance(value, list) or not all(isinstance(t, str) for t in value):
        _refuse(path, "target_modules", value, "a list of names works")
    return None if keys.get("exclude_modules") else tuple(value)


def _base(path: Path, value: Any) -> str:
    if not isinstance(value, str):
        _refuse(path, "base_model_name_or_path", value, "a name works")
    return value


def _require_all_layers(path: Path, value: Any, num_layers: int) -> None:
    layers = value if isinstance(value, list) else [value]
    if not layers:
        return
    if not all(type(x) is int for x in layers) or set(layers) != set(range(num_layers)):
        works = f"only a change of all {num_layers} layers can be held"
        _refuse(path, "layers_to_transform", value, works)


def _refuse(path: Path, key: str, value: Any, works: str) -> NoReturn:
    raise UserError(f"{path}: {key} is {shown(value)}; {works}")


def content(
    config: LoraConfig, targets: Sequence[str], base: str, fan_in_fan_out: bool
) -> dict[str, Any]:
    """The adapter_config.json of a change.

    Args:
      targets: ends of modules' names.
      fan_in_fan_out: the base's matrices are Conv1D of transformers.
    """
    alpha = config.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "r": config.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "use_rslora": config.rank_stabilised,
        "use_dora": config.dora,
        "target_modules": list(targets),
        "lora_dropout": config.dropout,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
    }
