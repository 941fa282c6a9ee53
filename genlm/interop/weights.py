"""WEIGHTS: the tensors of a source -> our tree of stacked arrays, and back.

Before: `folder.open_folder` or `gguf.open_gguf`. After: a run's checkpoint. Tensors go
through one at a time; what comes in is what goes out, bit for bit, in float32.
"""

import math
import re
from typing import Any, Iterator, Mapping

from flax import traverse_util
import jax
import numpy as np

from genlm.errors import UserError
from genlm.interop.json_object import shown
from genlm.interop.source import Source
from genlm.model import families, transformer
from genlm.model.config import TransformerConfig
from genlm.model.families import Slot

_ALIGNMENT = 64  # bytes, of what XLA takes over on a CPU without a copy
_HEAD, _EMBEDDING = "lm_head.weight", "embedding"
# Older files hold the causal mask of GPT-2 and the angles of Llama, which follow from
# the config; they are no parameters.
_BUFFERS = re.compile(r"(\.attn\.(masked_)?bias|\.rotary_emb\.inv_freq)$")


def load(source: Source, config: TransformerConfig) -> dict[str, Any]:
    """The tree of `transformer.param_specs(config)`, float32, out of a source.

    Every array is allocated once, and filled as its tensors are read.

    Raises:
      UserError: a tensor is missing, has another shape, or is none of the model's.
    """
    family = source.config["model_type"]
    found = _match(source, config, family)
    specs = traverse_util.flatten_dict(transformer.param_specs(config), sep="/")
    flat = {path: _aligned(spec.shape) for path, spec in specs.items()}
    for name, slots in found.items():
        for slot, part in families.from_file(source.read(name), slots, config):
            flat[slot.row.ours][slot.at] = part
    return traverse_util.unflatten_dict(flat, sep="/")


def _match(
    source: Source, config: TransformerConfig, family: str
) -> dict[str, tuple[Slot, ...]]:
    """What each tensor of the source holds: all that the config asks for, no more."""
    shapes = source.shapes
    prefix = _missing_prefix(shapes)
    found, embedding = {}, ""
    for full_name, slots in families.tensor_names(config, family):
        name = full_name.removeprefix(prefix)
        if name not in shapes:
            raise UserError(
                f"the model lacks the tensor {name}, which its config needs"
            )
        expected = families.file_shape(slots, config)
        if shapes[name] != expected:
            raise UserError(
                f"the tensor {name} is of shape {shapes[name]}, but its config asks for"
                f" {expected}"
            )
        found[name] = slots
        if slots[0].row.ours == _EMBEDDING:
            embedding = name
    rest = [n for n in shapes if n not in found and not _BUFFERS.search(n)]
    if config.tie_embeddings and _HEAD in rest:
        _require_tied(source, embedding)
        rest.remove(_HEAD)
    if rest:
        raise UserError(
            f"{len(rest)} tensor(s) are none of a {family} model of that config, the"
            f" first is {shown(min(rest))}"
        )
    return found


def _missing_prefix(shapes: Mapping[str, Any]) -> str:
    """What names begin with, but in files of a model saved without its head."""
    for prefix in families.PREFIXES:
        if any(name.startswith(prefix) for name in shapes):
            return ""
    return "transformer." if "wte.weight" in shapes else "model."


def _require_tied(source: Source, embedding: str) -> None:
    """Make sure that the head of a tied model is its embedding."""
    is_same = source.shapes[_HEAD] == source.shapes[embedding]
    if not is_same or not np.array_equal(
        source.read(_HEAD).view(np.int32), source.read(embedding).view(np.int32)
    ):
        raise UserError(
            f"config.json ties {_HEAD} to {embedding}, but they differ; set"
            " tie_word_embeddings to false in config.json"
        )


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array, its first byte at a multiple of _ALIGNMENT."""
    size = 4 * math.prod(shape)
    room = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT
    return room[begin : begin + size].view(np.float32).reshape(shape)


def shapes(config: TransformerConfig, family: str) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a family's files, by its name, in order.

    Raises:
      UserError: the family has no name for a parameter of that config.
    """
    return {
        name: families.file_shape(slots, config)
        for name, slots in families.tensor_names(config, family)
    }


def tensors(
    params: Any, config: TransformerConfig, family: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor of a family's files out of our tree, in the order of `shapes`."""
    arrays = jax.tree.map(np.asarray, params)  # on a CPU: views
    flat = traverse_util.flatten_dict(arrays, sep="/")
    for name, slots in families.tensor_names(config, family):
        yield name, families.to_file(flat, slots, config)
