"""Files that are not read: what is said of each, in one line that names it."""

import pickle
import struct
import sys

import gguf
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop.gguf import open_gguf
from tests.interop import gguf_files

_SETTINGS = {
    "context_length": 8,
    "embedding_length": 4,
    "feed_forward_length": 4,
    "block_count": 1,
    "attention.head_count": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
_SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (6, 4),
    "output_norm.weight": (4,),
    "blk.0.attn_norm.weight": (4,),
    "blk.0.ffn_norm.weight": (4,),
    **{f"blk.0.attn_{n}.weight": (4, 4) for n in ("q", "k", "v", "output")},
    **{f"blk.0.ffn_{n}.weight": (4, 4) for n in ("gate", "up", "down")},
}


def _write(path, architecture="llama", settings=(), shapes=(), lacks=()):
    """A small model; settings and shapes beside or in place of its own."""
    keys = {"{arch}." + k: v for k, v in (_SETTINGS | dict(settings)).items()}
    shapes = _SHAPES | dict(shapes)
    tensors = {
        n: np.ones(shape, np.float32) for n, shape in shapes.items() if n not in lacks
    }
    kept = {k: v for k, v in keys.items() if k.removeprefix("{arch}.") not in lacks}
    return gguf_files.write(path, architecture, kept, tensors)


def _refusal(path) -> str:
    with pytest.raises(UserError) as error:
        open_gguf(path)
    said = str(error.value)
    assert str(path) in said and "\n" not in said
    return said


_MODELS = {
    "an architecture": (
        {"architecture": "mamba"},
        "architecture 'mamba' is not supported; these are: llama, qwen2,",
    ),
    "a setting": (
        {"settings": {"logit_scale": 2.0}},
        "setting 'llama.logit_scale' is not supported",
    ),
    "a setting missing": ({"lacks": ("block_count",)}, "lacks 'llama.block_count'"),
    "a text for a number": (
        {"settings": {"block_count": "1"}},
        "'llama.block_count' must be a whole number, not string",
    ),
    "truth for a number": (
        {"settings": {"block_count": True}},
        "'llama.block_count' must be a whole number, not bool",
    ),
    "a list for a number": (
        {"settings": {"feed_forward_length": [4, 4]}},
        "'llama.feed_forward_length' must be a whole number, not a list of int32",
    ),
    "heads that do not divide": (
        {"settings": {"attention.head_count_kv": 3}},
        "llama.attention.head_count_kv = 3 is not supported",
    ),
    "half a rotation": (
        {"settings": {"rope.dimension_count": 1}},
        "llama.rope.dimension_count = 1 is not supported",
    ),
    "a scaling": (
        {"settings": {"rope.scaling.type": "longrope"}},
        "llama.rope.scaling.type = 'longrope' is not supported",
    ),
    "a number that is none": (
        {"settings": {"attention.layer_norm_rms_epsilon": float("nan")}},
        "'llama.attention.layer_norm_rms_epsilon' is nan",
    ),
    "layers that are not there": (
        {"settings": {"block_count": 2**32 - 1}},
        "llama.block_count = 4294967295 is not supported",
    ),
    "a tensor missing": (
        {"lacks": ("blk.0.attn_v.weight",)},
        "lacks the tensor blk.0.attn_v.weight",
    ),
    "a tensor too many": (
        {"shapes": {"blk.0.attn_sinks.weight": (4,)}},
        "tensor 'blk.0.attn_sinks.weight' is none of a llama model",
    ),
    "a layer too many": (
        {"shapes": {"blk.1.attn_norm.weight": (4,)}},
        "tensor 'blk.1.attn_norm.weight' is none of a llama model",
    ),
    "a bias alone": (
        {"shapes": {"blk.0.attn_q.bias": (4,)}},
        "lacks the tensor blk.0.attn_k.bias",
    ),
    "another shape": (
        {"shapes": {"blk.0.ffn_up.weight": (8, 4)}},
        "tensor blk.0.ffn_up.weight has shape (8, 4); by the metadata it would be",
    ),
}


@pytest.mark.parametrize("name", _MODELS)
def test_a_model_that_is_not_understood(name, tmp_path):
    arguments, said = _MODELS[name]
    assert said in _refusal(_write(tmp_path / "a.gguf", **arguments))


def test_rotary_divisors_that_are_not_llama_3s(tmp_path):
    shapes = {"rope_freqs.weight": (1,)}
    open_gguf(_write(tmp_path / "a.gguf", shapes=shapes))  # ones: no scaling
    reader = gguf.GGUFReader(tmp_path / "a.gguf", "r+")
    reader.tensors[-1].data[:] = 2.0
    reader.data.flush()
    said = _refusal(tmp_path / "a.gguf")
    assert "rope_freqs.weight is not the scaling of Llama 3" in said


def test_one_part_of_several(tmp_path):
    keys = {"split.count": 3, "general.name": "a"}
    path = gguf_files.write(tmp_path / "a.gguf", "llama", keys, {})
    assert "is one of 3 parts; join them with" in _refusal(path)


_HEAD = b"GGUF" + struct.pack("<I", 3)


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _key(name: bytes, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _with(*fields: bytes, tensors: tuple[bytes, ...] = ()) -> bytes:
    counts = struct.pack("<QQ", len(tensors), len(fields))
    return _HEAD + counts + b"".join(fields) + b"".join(tensors)


def _tensor(name: bytes, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return _string(name) + shape + struct.pack("<IQ", kind, offset)


_PAD = bytes(256)
_FILES = {
    "nothing": (b"", "is empty"),
    "a pickle": (pickle.dumps({"a": 1}), "is no GGUF file"),
    "three bytes": (b"GGU", "cut short: the magic number needs 4 bytes, 3 are left"),
    "version 1": (b"GGUF" + struct.pack("<I", 1), "is of GGUF version 1; versions 2"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3), "is big-endian; versions 2 and 3"),
    "only a version": (_HEAD, "cut short: the number of tensors needs 8 bytes"),
    "huge counts": (_HEAD + b"\xff" * 16, "claims 18,446,744,073,709,551,615 tensors"),
    "a long key": (_HEAD + struct.pack("<QQQ", 0, 1, 2**40), "a key of 1,099,511,627"),
    "a key that is cut": (
        _HEAD + struct.pack("<QQQ", 0, 1, 9),
        "cut short: a key needs 9",
    ),
    "a key of other bytes": (
        _with(_key(b"\xff", 4, _PAD[:4])),
        "a key at byte 32 is n",
    ),
    "a key twice": (_with(*[_key(b"a", 0, b"0")] * 2), "'a' is there twice"),
    "a type": (_with(_key(b"a", 13, _PAD)), "'a' is of type 13, which the format does"),
    "a list of lists": (
        _with(_key(b"a", 9, struct.pack("<IQ", 9, 1))),
        "'a' is a list of lists",
    ),
    "a long list": (
        _with(_key(b"a", 9, struct.pack("<IQ", 4, 2**62))),
        "cut short: 'a' needs 18,446,744,073,709,551,616 bytes",
    ),
    "a long list of texts": (
        _with(_key(b"a", 9, struct.pack("<IQ", 8, 2**63)), _PAD),
        "cut short: 'a' goes on after the file",
    ),
    "a text of other bytes": (
        _with(_key(b"general.architecture", 8, _string(b"\xc3("))),
        "'general.architecture' is not UTF-8",
    ),
    "no architecture": (_with(), "lacks 'general.architecture'"),
    "an alignment": (
        _with(_key(b"general.alignment", 4, struct.pack("<I", 3))),
        "alignment 3 is no power of two",
    ),
    "a tensor of many dims": (
        _with(tensors=(_tensor(b"t", (1,) * 5, 0, 0),)),
        "tensor 't' has 5 dims",
    ),
    "a tensor of none": (_with(tensors=(_tensor(b"t", (), 0, 0),)), "'t' has 0 dims"),
    "a tensor of nothing": (
        _with(tensors=(_tensor(b"t", (0,), 0, 0),)),
        "'t' of shape (0,) is not made of F32 blocks",
    ),
    "half a block": (
        _with(tensors=(_tensor(b"t", (33,), 8, 0),)) + _PAD,
        "'t' of shape (33,) is not made of Q8_0 blocks",
    ),
    "more than 64 bits": (
        _with(tensors=(_tensor(b"t", (2**62, 2**62), 0, 0),)) + _PAD,
        "ends after the file",
    ),
    "an offset": (
        _with(tensors=(_tensor(b"t", (4,), 0, 2**62),)) + _PAD,
        "ends after the file",
    ),
    "an offset between": (
        _with(tensors=(_tensor(b"t", (4,), 0, 4),)) + _PAD,
        "tensor 't' is at 4, which is not aligned",
    ),
    "a type of tensor": (
        _with(tensors=(_tensor(b"t", (4,), 99, 0),)) + _PAD,
        "'t' is of type 99, which gguf does not know; read are F32,",
    ),
    "a tensor twice": (
        _with(tensors=(_tensor(b"t", (4,), 0, 0), _tensor(b"t", (4,), 0, 32))) + _PAD,
        "tensor 't' is there twice",
    ),
    "tensors that overlap": (
        _with(tensors=(_tensor(b"t", (9,), 0, 0), _tensor(b"u", (4,), 0, 32))) + _PAD,
        "tensors 't' and 'u' overlap",
    ),
}


@pytest.mark.parametrize("name", _FILES)
def test_a_file_that_is_not_whole(name, tmp_path):
    data, said = _FILES[name]
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    assert said in _refusal(path)


def test_the_library_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'genlm\[hf\]'"):
        open_gguf(tmp_path / "a.gguf")


def test_no_file(tmp_path):
    assert "No such file" in _refusal(tmp_path / "a.gguf")
    assert "Is a directory" in _refusal(tmp_path)
