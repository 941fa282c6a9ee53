"""FAMILIES: under which names, and in which order of dims, checkpoint files of real
models hold our parameters.

A row of a table reads in both directions: our path in the tree of
`transformer.param_specs`, the name in the file, our dims (without layers and experts),
the file's dims with commas between them. {l} counts the layers, {e} the experts, and P
the parts of a tensor that holds several of ours. Sources: the modules of transformers
(models/*/modeling_*.py) and the files that their authors published.
"""

import math
from typing import Any, Iterator, NamedTuple

from flax import traverse_util
import numpy as np

from genlm.errors import UserError
from genlm.model import transformer
from genlm.model.config import TransformerConfig


class Row(NamedTuple):
    """One parameter of ours, and where a file holds it."""

    ours: str
    theirs: str
    dims: str
    file_dims: str
    part: int = 0  # along P


_ENDS = (
    Row("embedding", "model.embed_tokens.weight", "VD", "V,D"),
    Row("final_norm", "model.norm.weight", "D", "D"),
    Row("unembedding", "lm_head.weight", "VD", "V,D"),
)
_ATTENTION = (
    Row(
        "layers/attention/q", "model.layers.{l}.self_attn.q_proj.weight", "DNH", "NH,D"
    ),
    Row(
        "layers/attention/k", "model.layers.{l}.self_attn.k_proj.weight", "DKH", "KH,D"
    ),
    Row(
        "layers/attention/v", "model.layers.{l}.self_attn.v_proj.weight", "DKH", "KH,D"
    ),
    Row(
        "layers/attention/o", "model.layers.{l}.self_attn.o_proj.weight", "NHD", "D,NH"
    ),
    Row(
        "layers/attention/q_bias", "model.layers.{l}.self_attn.q_proj.bias", "NH", "NH"
    ),
    Row(
        "layers/attention/k_bias", "model.layers.{l}.self_attn.k_proj.bias", "KH", "KH"
    ),
    Row(
        "layers/attention/v_bias", "model.layers.{l}.self_attn.v_proj.bias", "KH", "KH"
    ),
    Row("layers/attention/o_bias", "model.layers.{l}.self_attn.o_proj.bias", "D", "D"),
    Row(
        "layers/attention/q_norm", "model.layers.{l}.self_attn.q_norm.weight", "H", "H"
    ),
    Row(
        "layers/attention/k_norm", "model.layers.{l}.self_attn.k_norm.weight", "H", "H"
    ),
)
_MLP = (
    Row("layers/mlp/gate", "model.layers.{l}.mlp.gate_proj.weight", "DF", "F,D"),
    Row("layers/mlp/up", "model.layers.{l}.mlp.up_proj.weight", "DF", "F,D"),
    Row("layers/mlp/down", "model.layers.{l}.mlp.down_proj.weight", "FD", "D,F"),
    Row("layers/mlp/gate_bias", "model.layers.{l}.mlp.gate_proj.bias", "F", "F"),
    Row("layers/mlp/up_bias", "model.layers.{l}.mlp.up_proj.bias", "F", "F"),
    Row("layers/mlp/down_bias", "model.layers.{l}.mlp.down_proj.bias", "D", "D"),
)
_NORMS = (
    Row("layers/attention_norm", "model.layers.{l}.input_layernorm.weight", "D", "D"),
    Row(
        "layers/mlp_norm", "model.layers.{l}.post_attention_layernorm.weight", "D", "D"
    ),
)
_GEMMA_NORMS = (
    Row("layers/attention_norm", "model.layers.{l}.input_layernorm.weight", "D", "D"),
    Row(
        "layers/post_attention_norm",
        "model.layers.{l}.post_attention_layernorm.weight",
        "D",
        "D",
    ),
    Row(
        "layers/mlp_norm", "model.layers.{l}.pre_feedforward_layernorm.weight", "D", "D"
    ),
    Row(
        "layers/post_mlp_norm",
        "model.layers.{l}.post_feedforward_layernorm.weight",
        "D",
        "D",
    ),
)
_MIXTRAL = "model.layers.{l}.block_sparse_moe."
_MIXTRAL_EXPERTS = (
    Row("layers/mlp/router", _MIXTRAL + "gate.weight", "DE", "E,D"),
    Row("layers/mlp/gate", _MIXTRAL + "experts.{e}.w1.weight", "DF", "F,D"),
    Row("layers/mlp/down", _MIXTRAL + "experts.{e}.w2.weight", "FD", "D,F"),
    Row("layers/mlp/up", _MIXTRAL + "experts.{e}.w3.weight", "DF", "F,D"),
)
_QWEN = "model.layers.{l}.mlp."
_QWEN_EXPERTS = (
    Row("layers/mlp/router", _QWEN + "gate.weight", "DE", "E,D"),
    Row("layers/mlp/gate", _QWEN + "experts.{e}.gate_proj.weight", "DF", "F,D"),
    Row("layers/mlp/up", _QWEN + "experts.{e}.up_proj.weight", "DF", "F,D"),
    Row("layers/mlp/down", _QWEN + "experts.{e}.down_proj.weight", "FD", "D,F"),
)
# Its products are Conv1D of transformers: [in, out], queries, keys and values as one.
_H = "transformer.h.{l}."
_GPT2 = (
    Row("embedding", "transformer.wte.weight", "VD", "V,D"),
    Row("positions", "transformer.wpe.weight", "TD", "T,D"),
    Row("layers/attention_norm", _H + "ln_1.weight", "D", "D"),
    Row("layers/attention_norm_bias", _H + "ln_1.bias", "D", "D"),
    Row("layers/attention/q", _H + "attn.c_attn.weight", "DNH", "D,PNH", 0),
    Row("layers/attention/k", _H + "attn.c_attn.weight", "DKH", "D,PKH", 1),
    Row("layers/attention/v", _H + "attn.c_attn.weight", "DKH", "D,PKH", 2),
    Row("layers/attention/q_bias", _H + "attn.c_attn.bias", "NH", "PNH", 0),
    Row("layers/attention/k_bias", _H + "attn.c_attn.bias", "KH", "PKH", 1),
    Row("layers/attention/v_bias", _H + "attn.c_attn.bias", "KH", "PKH", 2),
    Row("layers/attention/o", _H + "attn.c_proj.weight", "NHD", "NH,D"),
    Row("layers/attention/o_bias", _H + "attn.c_proj.bias", "D", "D"),
    Row("layers/mlp_norm", _H + "ln_2.weight", "D", "D"),
    Row("layers/mlp_norm_bias", _H + "ln_2.bias", "D", "D"),
    Row("layers/mlp/up", _H + "mlp.c_fc.weight", "DF", "D,F"),
    Row("layers/mlp/up_bias", _H + "mlp.c_fc.bias", "F", "F"),
    Row("layers/mlp/down", _H + "mlp.c_proj.weight", "FD", "F,D"),
    Row("layers/mlp/down_bias", _H + "mlp.c_proj.bias", "D", "D"),
    Row("final_norm", "transformer.ln_f.weight", "D", "D"),
    Row("final_norm_bias", "transformer.ln_f.bias", "D", "D"),
    Row("unembedding", "lm_head.weight", "VD", "V,D"),
)
_LLAMA = _ENDS + _ATTENTION + _MLP + _NORMS
_GEMMA = _ENDS + _ATTENTION + _MLP + _GEMMA_NORMS
NAMES: dict[str, tuple[Row, ...]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "mixtral": _ENDS + _ATTENTION + _MIXTRAL_EXPERTS + _NORMS,
    "qwen3_moe": _ENDS + _ATTENTION + _QWEN_EXPERTS + _NORMS,
    "gpt2": _GPT2,
}
PREFIXES = ("model.", "transformer.")  # files of a model without its head lack them


class Slot(NamedTuple):
    """Where a tensor of a file, or one part of it, stands among our arrays."""

    row: Row
    at: tuple[int, ...]  # (), (layer,) or (layer, expert)


def tensor_names(
    config: TransformerConfig, family: str
) -> Iterator[tuple[str, tuple[Slot, ...]]]:
    """The name of every tensor in a family's files, and what it holds, layer by layer.

    Raises:
      UserError: the family has no name for a parameter of that config.
    """
    groups = _groups(config, family)
    for name, rows in groups.items():
        if "{l}" not in name:
            yield name, tuple(Slot(row, ()) for row in rows)
    for layer in range(config.num_layers):
        for name, rows in groups.items():
            if "{e}" in name:
                for e in range(config.num_experts):
                    slots = tuple(Slot(row, (layer, e)) for row in rows)
                    yield name.format(l=layer, e=e), slots
            elif "{l}" in name:
                slots = tuple(Slot(row, (layer,)) for row in rows)
                yield name.format(l=layer), slots


def _groups(config: TransformerConfig, family: str) -> dict[str, list[Row]]:
    """The rows that a config needs, by their name in the file."""
    paths = set(traverse_util.flatten_dict(transformer.param_specs(config), sep="/"))
    groups: dict[str, list[Row]] = {}
    for row in NAMES[family]:
        if row.ours in paths:
            groups.setdefault(row.theirs, []).append(row)
    named = {row.ours for rows in groups.values() for row in rows}
    if paths != named:
        missing = ", ".join(sorted(paths - named))
        raise UserError(f"models of the family {family} have no {missing}")
    return groups


def file_shape(slots: tuple[Slot, ...], config: TransformerConfig) -> tuple[int, ...]:
    """The shape, in a file, of the tensor that holds `slots`."""
    size = _sizes(config, len(slots))
    groups = slots[0].row.file_dims.split(",")
    return tuple(math.prod(size[letter] for letter in group) for group in groups)


def from_file(
    tensor: np.ndarray, slots: tuple[Slot, ...], config: TransformerConfig
) -> Iterator[tuple[Slot, np.ndarray]]:
    """Each slot's part of a file's tensor, as a view with our dims."""
    size = _sizes(config, len(slots))
    for slot in slots:
        dims = slot.row.file_dims.replace(",", "")
        part = tensor.reshape([size[letter] for letter in dims])
        if "P" in dims:
            part = np.take(part, slot.row.part, axis=dims.index("P"))
            dims = dims.replace("P", "")
        yield slot, np.einsum(f"{dims}->{slot.row.dims}", part)


def to_file(
    params: dict[str, Any], slots: tuple[Slot, ...], config: TransformerConfig
) -> np.ndarray:
    """The file's tensor that holds `slots` of our arrays by path, C-contiguous."""
    dims = slots[0].row.file_dims.replace(",", "")
    parts = []
    for row, at in slots:
        target = row.file_dims.replace(",", "").replace("P", "")
        parts.append(np.einsum(f"{row.dims}->{target}", params[row.ours][at]))
    whole = np.stack(parts, axis=dims.index("P")) if "P" in dims else parts[0]
    return np.ascontiguousarray(whole.reshape(file_shape(slots, config)))


def _sizes(c: TransformerConfig, parts: int) -> dict[str, int]:
    """What the letters of the tables stand for."""
    return {
        "V": c.vocab_size,
        "T": c.max_length,
        "D": c.model_dim,
        "N": c.num_heads,
        "K": c.num_kv_heads,
        "H": c.head_dim,
        "F": c.mlp_dim,
        "E": c.num_experts,
        "P": parts,
    }
