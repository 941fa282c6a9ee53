"""THE KEYS OF A CONFIG.JSON: each is read once and checked, or known to change nothing,
or an error. Nothing is dropped silently.
"""

import math
from typing import Any, Mapping, NoReturn

from genlm.errors import UserError
from genlm.interop.json_object import shown

LARGEST = 2**31 - 1  # a count
# What these say changes nothing in what the model computes.
_HARMLESS = frozenset("""
    _attn_implementation _attn_implementation_autoset _name_or_path architectures
    attention_dropout attn_implementation attn_pdrop bos_token_id
    cache_implementation chunk_size_feed_forward do_sample dtype embd_pdrop
    eos_token_id finetuning_task gradient_checkpointing id2label initializer_range
    is_decoder is_llama_config label2id max_length model_type n_ctx num_labels
    output_attentions output_hidden_states output_router_logits pad_token_id prefix
    problem_type reorder_and_upcast_attn resid_pdrop return_dict
    return_dict_in_generate router_aux_loss_coef router_jitter_noise
    summary_activation summary_first_dropout summary_proj_to_labels summary_type
    summary_use_proj task_specific_params temperature tokenizer_class top_k top_p
    torch_dtype transformers.js_config transformers_version unk_token_id
    unsloth_fixed unsloth_version use_cache
    """.split())
# What these say must be so, because nothing else is known here.
_FIXED: dict[str, Any] = {
    "add_cross_attention": False,
    "attention_bias": False,  # read in Llama
    "decoder_sparse_step": 1,
    "is_encoder_decoder": False,
    "mlp_bias": False,  # read in Llama
    "mlp_only_layers": [],
    "partial_rotary_factor": 1,
    "pretraining_tp": 1,
    "rope_interleaved": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "use_bidirectional_attention": False,
    "use_mrope": False,
    "use_qk_norm": False,
}
_MISSING = object()


def refuse(key: str, value: Any, works: str) -> NoReturn:
    """Raise the error that a key has a value that is not known."""
    raise UserError(f"config.json: {key} is {shown(value)}; {works}")


class Keys:
    """An object of config.json, whose keys are read once each.

    `name` is its place, for complaints: '' is the file itself.
    """

    def __init__(self, values: Mapping[str, Any], name: str = ""):
        self._values = dict(values)
        self._name = name

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def path(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def take(self, key: str, default: Any = _MISSING) -> Any:
        """The value, whatever it is; `default` where there is none."""
        value = self._values.pop(key, default)
        if value is _MISSING:
            raise UserError(f"config.json lacks {self.path(key)}")
        return value

    def count(self, key: str, default: Any = _MISSING) -> int:
        value = self.take(key, default)
        if type(value) is not int or not 1 <= value <= LARGEST:
            refuse(self.path(key), value, f"a whole number from 1 to {LARGEST} works")
        return value

    def number(self, key: str, default: Any = _MISSING) -> float:
        value = self.take(key, default)
        if type(value) not in (int, float) or not 0 < value < 1e30:
            refuse(self.path(key), value, "a positive number works")
        return float(value)

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        value = self.take(key, default)
        if type(value) is not bool:
            refuse(self.path(key), value, "true or false works")
        return value

    def word(self, key: str, known: Mapping[str, Any], default: Any = _MISSING) -> Any:
        """What the value stands for, which is one of the words `known`."""
        value = self.take(key, default)
        if not isinstance(value, str) or value not in known:
            refuse(self.path(key), value, f"known are {', '.join(known)}")
        return known[value]

    def object(self, key: str) -> "Keys | None":
        """The object below a key; None where there is none, or null."""
        value = self.take(key, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            refuse(self.path(key), value, "an object works")
        return Keys(value, self.path(key))

    def done(self) -> None:
        """Make sure that nothing is left that may change what the model computes.

        Raises:
          UserError: a key is left that nobody knows, and it is not null.
        """
        for key, value in self._values.items():
            known = not self._name and key in _HARMLESS
            if value is None or known:
                continue
            if key not in _FIXED:
                refuse(self.path(key), value, "it is not known here what that changes")
            if not _is_same(value, _FIXED[key]):
                refuse(
                    self.path(key), value, f"only {shown(_FIXED[key])} is known here"
                )


def _is_same(value: Any, fixed: Any) -> bool:
    if isinstance(fixed, (bool, list)):
        return type(value) is type(fixed) and value == fixed
    return type(value) in (int, float) and math.isclose(value, fixed)
