"""GGUF, THE NAMES: where each tensor of transformers' checkpoint is in the file.

Before: a header, and the config that gguf_config made of it. After: gguf. A table says
of each tensor its two names, its shape and what llama.cpp's converter did to it; a
tensor that the table lacks, or that the file lacks, is an error, so nothing is dropped.
The converters: https://github.com/ggml-org/llama.cpp/tree/master/conversion
"""

from typing import Any, Callable, Iterator, NamedTuple

import numpy as np

from genlm.errors import UserError
from genlm.interop.gguf_header import Header, Tensor, shown

MAX_TENSORS = 1 << 18  # of a checkpoint, experts counted; real ones have under 60,000

Change = Callable[[np.ndarray, dict[str, Any]], np.ndarray]


class Row(NamedTuple):
    """One tensor, or one of each layer and expert.

    `dims` is a letter a dim, as stored: V vocab, T positions, D model, H head, Q heads
    x head, K kv heads x head, C = 3 D, F mlp, E experts, M mlp of an expert. The first
    of three dims is split into {expert}s.
    """

    gguf: str
    name: str
    dims: str
    change: Change | None = None


class Place(NamedTuple):
    """A tensor of the checkpoint: rows of a tensor of the file, from `first` on, to be
    changed."""

    tensor: Tensor
    first: int
    stored: tuple[int, ...]  # shape before the change
    shape: tuple[int, ...]
    change: Change | None


def unrotated(array: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Rows of Q or K with the two halves of a head one after the other again.

    llama.cpp rotates neighbours, transformers rotates halves, so the converter
    interleaves the rows: [heads, 2, half] -> [heads, half, 2].
    """
    halves = array.reshape(-1, config["head_dim"] // 2, 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def minus_one(array: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """A norm's weight w from 1 + w, by which Gemma multiplies and which is stored."""
    return array - 1


def transposed(array: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """The [in, out] of GPT-2's Conv1D from the [out, in] of a matrix product."""
    return array.T


_MODEL = (
    Row("token_embd.weight", "model.embed_tokens.weight", "VD"),
    Row("output_norm.weight", "model.norm.weight", "D"),
)
_HEAD = Row("output.weight", "lm_head.weight", "VD")
_NORMS = (
    Row("attn_norm.weight", "input_layernorm.weight", "D"),
    Row("ffn_norm.weight", "post_attention_layernorm.weight", "D"),
)
_OUT = Row("attn_output.weight", "self_attn.o_proj.weight", "DQ")
_ATTENTION = (
    Row("attn_q.weight", "self_attn.q_proj.weight", "QD"),
    Row("attn_k.weight", "self_attn.k_proj.weight", "KD"),
    Row("attn_v.weight", "self_attn.v_proj.weight", "KD"),
)
_BIASES = (
    Row("attn_q.bias", "self_attn.q_proj.bias", "Q"),
    Row("attn_k.bias", "self_attn.k_proj.bias", "K"),
    Row("attn_v.bias", "self_attn.v_proj.bias", "K"),
)
_HEAD_NORMS = (
    Row("attn_q_norm.weight", "self_attn.q_norm.weight", "H"),
    Row("attn_k_norm.weight", "self_attn.k_norm.weight", "H"),
)
_MLP = (
    Row("ffn_gate.weight", "mlp.gate_proj.weight", "FD"),
    Row("ffn_up.weight", "mlp.up_proj.weight", "FD"),
    Row("ffn_down.weight", "mlp.down_proj.weight", "DF"),
)
_MLP_BIASES = (
    Row("ffn_gate.bias", "mlp.gate_proj.bias", "F"),
    Row("ffn_up.bias", "mlp.up_proj.bias", "F"),
    Row("ffn_down.bias", "mlp.down_proj.bias", "D"),
)
_MIXTRAL_EXPERTS = (
    Row("ffn_gate_inp.weight", "block_sparse_moe.gate.weight", "ED"),
    Row("ffn_gate_exps.weight", "block_sparse_moe.experts.{expert}.w1.weight", "EFD"),
    Row("ffn_down_exps.weight", "block_sparse_moe.experts.{expert}.w2.weight", "EDF"),
    Row("ffn_up_exps.weight", "block_sparse_moe.experts.{expert}.w3.weight", "EFD"),
)
_QWEN_EXPERTS = (
    Row("ffn_gate_inp.weight", "mlp.gate.weight", "ED"),
    Row("ffn_gate_exps.weight", "mlp.experts.{expert}.gate_proj.weight", "EMD"),
    Row("ffn_up_exps.weight", "mlp.experts.{expert}.up_proj.weight", "EMD"),
    Row("ffn_down_exps.weight", "mlp.experts.{expert}.down_proj.weight", "EDM"),
)
_GEMMA_NORMS = (
    Row("attn_norm.weight", "input_layernorm.weight", "D"),
    Row("post_attention_norm.weight", "post_attention_layernorm.weight", "D"),
    Row("ffn_norm.weight", "pre_feedforward_layernorm.weight", "D"),
    Row("post_ffw_norm.weight", "post_feedforward_layernorm.weight", "D"),
)
_GPT2_MODEL = (
    Row("token_embd.weight", "transformer.wte.weight", "VD"),
    Row("position_embd.weight", "transformer.wpe.weight", "TD"),
    Row("output_norm.weight", "transformer.ln_f.weight", "D"),
    Row("output_norm.bias", "transformer.ln_f.bias", "D"),
)
_GPT2_LAYER = (
    Row("attn_norm.weight", "ln_1.weight", "D"),
    Row("attn_norm.bias", "ln_1.bias", "D"),
    Row("attn_qkv.weight", "attn.c_attn.weight", "CD", transposed),
    Row("attn_qkv.bias", "attn.c_attn.bias", "C"),
    Row("attn_output.weight", "attn.c_proj.weight", "DQ", transposed),
    Row("attn_output.bias", "attn.c_proj.bias", "D"),
    Row("ffn_norm.weight", "ln_2.weight", "D"),
    Row("ffn_norm.bias", "ln_2.bias", "D"),
    Row("ffn_up.weight", "mlp.c_fc.weight", "FD", transposed),
    Row("ffn_up.bias", "mlp.c_fc.bias", "F"),
    Row("ffn_down.weight", "mlp.c_proj.weight", "DF", transposed),
    Row("ffn_down.bias", "mlp.c_proj.bias", "D"),
)


def _with(
    rows: tuple[Row, ...], suffixes: tuple[str, ...], change: Change
) -> list[Row]:
    """The rows, `change` said of those whose name in the file has one of the ends."""
    return [r._replace(change=change) if r.gguf.endswith(suffixes) else r for r in rows]


def _layer_rows(config: dict[str, Any]) -> list[Row]:
    """The tensors of one layer."""
    kind, attention = config["model_type"], (*_ATTENTION, _OUT)
    rows: tuple[Row, ...]
    rotated = ("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias")
    if kind == "gpt2":
        return list(_GPT2_LAYER)
    if kind == "mixtral":
        return _with((*_NORMS, *attention, *_MIXTRAL_EXPERTS), rotated, unrotated)
    if kind in ("llama", "mistral"):
        rows = (*_NORMS, *attention, *_MLP)
        if kind == "llama" and config["attention_bias"]:
            rows += (*_BIASES, Row("attn_output.bias", "self_attn.o_proj.bias", "D"))
        if kind == "llama" and config["mlp_bias"]:
            rows += _MLP_BIASES
        return _with(rows, rotated, unrotated)
    if kind == "qwen2":
        return [*_NORMS, *attention, *_BIASES, *_MLP]
    if kind == "qwen3":
        return [*_NORMS, *attention, *_HEAD_NORMS, *_MLP]
    if kind == "qwen3_moe":
        return [*_NORMS, *attention, *_HEAD_NORMS, *_QWEN_EXPERTS]
    rows = (*_GEMMA_NORMS, *attention, *_MLP)
    if kind == "gemma3_text":
        rows += _HEAD_NORMS
    return _with(rows, ("norm.weight",), minus_one)


def _model_rows(config: dict[str, Any]) -> list[Row]:
    """The tensors outside the layers."""
    kind = config["model_type"]
    rows = list(_GPT2_MODEL if kind == "gpt2" else _MODEL)
    if kind.startswith("gemma"):
        rows = _with(tuple(rows), ("norm.weight",), minus_one)
    return rows if config["tie_word_embeddings"] else [*rows, _HEAD]


def _sizes(config: dict[str, Any]) -> dict[str, int]:
    """What the letters of `Row.dims` stand for."""
    if config["model_type"] == "gpt2":
        width = config["n_embd"]
        sizes = {"D": width, "Q": width, "C": 3 * width, "T": config["n_positions"]}
        return sizes | {"V": config["vocab_size"], "F": config["n_inner"]}
    head = config["head_dim"]
    sizes = {
        "V": config["vocab_size"],
        "D": config["hidden_size"],
        "H": head,
        "Q": head * config["num_attention_heads"],
        "K": head * config["num_key_value_heads"],
        "F": config["intermediate_size"],
    }
    if config["model_type"] == "mixtral":
        sizes["E"] = config["num_local_experts"]
    if config["model_type"] == "qwen3_moe":
        sizes |= {"E": config["num_experts"], "M": config["moe_intermediate_size"]}
    return sizes


def places(header: Header, config: dict[str, Any]) -> dict[str, Place]:
    """Every tensor of the checkpoint, by its name there.

    Raises:
      UserError: the file lacks one, has one of another shape, or one too many.
    """
    sizes = _sizes(config)
    found: dict[str, Place] = {}
    left = set(header.tensors) - {"rope_freqs.weight"}  # gguf_config has read it
    for row in _rows(config):
        left.discard(row.gguf)
        tensor = _expected(header, row, sizes)
        if len(found) + row.dims.count("E") * sizes.get("E", 0) > MAX_TENSORS:
            raise UserError(f"{header.path}: claims more than {MAX_TENSORS:,} tensors")
        found.update(_split(tensor, row))
    if left:
        kind, name = config["model_type"], shown(min(left))
        raise UserError(f"{header.path}: tensor {name} is none of a {kind} model")
    return found


def _rows(config: dict[str, Any]) -> Iterator[Row]:
    """All tensors, those of layers with their full names."""
    yield from _model_rows(config)
    is_gpt2 = config["model_type"] == "gpt2"
    layers = "transformer.h" if is_gpt2 else "model.layers"
    of_layer = _layer_rows(config)
    for i in range(config["n_layer" if is_gpt2 else "num_hidden_layers"]):
        for row in of_layer:
            ours, theirs = f"blk.{i}.{row.gguf}", f"{layers}.{i}.{row.name}"
            yield row._replace(gguf=ours, name=theirs)


def _expected(header: Header, row: Row, sizes: dict[str, int]) -> Tensor:
    """The file's tensor for a row, of the right shape."""
    if row.gguf not in header.tensors:
        raise UserError(f"{header.path}: lacks the tensor {row.gguf}")
    tensor, shape = header.tensors[row.gguf], tuple(sizes[d] for d in row.dims)
    if tensor.shape != shape:
        raise UserError(
            f"{header.path}: tensor {row.gguf} has shape {tensor.shape}; by the"
            f" metadata it would be {shape}"
        )
    return tensor


def _split(tensor: Tensor, row: Row) -> Iterator[tuple[str, Place]]:
    """The name and place of a row's tensor, or of each of its experts."""
    stored = tensor.shape[-2:]
    shape = stored[::-1] if row.change is transposed else stored
    if len(tensor.shape) < 3:
        yield row.name, Place(tensor, 0, stored, shape, row.change)
        return
    for i in range(tensor.shape[0]):
        place = Place(tensor, i * stored[0], stored, shape, row.change)
        yield row.name.replace("{expert}", str(i)), place
