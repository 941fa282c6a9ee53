"""A thousand spoilt headers: each opens whole or is refused in one line, and none takes
memory by what it claims.
"""

import contextlib
import functools
from pathlib import Path
import struct
import tempfile
import tracemalloc
from typing import Any, Iterator

import gguf
from hypothesis import given, settings, strategies
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop.gguf import open_gguf
from genlm.interop.gguf_tokenizer import tokenizer_json
from genlm.interop.gguf_vocabulary import special_ids
from tests.interop import gguf_files
from tests.tokenizer import made

_TOKENS = 300
_SMALLER = {
    "llama.block_count": 1,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
    "llama.rope.dimension_count": 16,
    "llama.vocab_size": _TOKENS,
}
_SHAPES = {
    "token_embd.weight": (_TOKENS, 32),
    "output_norm.weight": (32,),
    "blk.0.attn_norm.weight": (32,),
    "blk.0.ffn_norm.weight": (32,),
    "blk.0.attn_q.weight": (32, 32),
    "blk.0.attn_k.weight": (16, 32),
    "blk.0.attn_v.weight": (16, 32),
    "blk.0.attn_output.weight": (32, 32),
    "blk.0.ffn_gate.weight": (64, 32),
    "blk.0.ffn_up.weight": (64, 32),
    "blk.0.ffn_down.weight": (32, 64),
}
_ROOM = 100_000_000  # bytes beyond the file's own
_EDITS = ("flip", "huge", "huge", "small", "exchange", "put", "cut")
_HUGE = (0, 1, 5, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def _real_metadata(path: Path) -> dict[str, Any]:
    values = {}
    for name, field in gguf.GGUFReader(path).fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            values[name] = field.contents()
    return values


def _made_metadata() -> dict[str, Any]:
    """As SmolLM2's, with a tokenizer of our own."""
    model = made.byte_level()["model"]
    return {
        "general.name": "made",
        "llama.context_length": 128,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 1e5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": sorted(model["vocab"], key=model["vocab"].get),
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(model["vocab"]) - 3),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages }}",
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
    }


@functools.cache
def _small() -> tuple[bytes, tuple[int, ...], int]:
    """The metadata of a real model, where it is installed, with a small one's tensors:
    the bytes of the file, where its counts, lengths, types and offsets are, and where
    the header ends."""
    path = gguf_files.installed()
    values = _real_metadata(path) if path else _made_metadata()
    cut = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    values |= _SMALLER | {name: values[name][:_TOKENS] for name in cut}
    tokens = set(values["tokenizer.ggml.tokens"])
    merges = [m.split() for m in values["tokenizer.ggml.merges"]]
    values["tokenizer.ggml.merges"] = [
        f"{a} {b}" for a, b in merges if {a, b, a + b} <= tokens
    ]
    rng = np.random.default_rng(0)
    tensors = {n: rng.normal(size=s).astype(np.float32) for n, s in _SHAPES.items()}
    with tempfile.TemporaryDirectory() as folder:
        path, kind = Path(folder, "a.gguf"), gguf.GGMLQuantizationType.Q8_0
        gguf_files.write(path, "llama", values, tensors, kind)
        reader = gguf.GGUFReader(path)
        return path.read_bytes(), _numbers(reader), reader.data_offset


def _numbers(reader: gguf.GGUFReader) -> tuple[int, ...]:
    """Where the numbers of the header's structure are; of a list, the first few."""
    fields = [*reader.fields.values(), *(t.field for t in reader.tensors)]
    found = []
    for field in fields:
        place = field.offset
        for part in field.parts[:8]:
            if part.dtype.itemsize > 1:
                found.append(place)
            place += part.nbytes
    return tuple(found)


@strategies.composite
def _spoilt(draw) -> bytes:
    """The real file after a few edits: bits flipped, numbers made huge or exchanged,
    bytes put in, the end cut off."""
    whole, numbers, end = _small()
    data = bytearray(whole)
    places = strategies.sampled_from(numbers)
    for _ in range(draw(strategies.integers(1, 3))):
        edit = draw(strategies.sampled_from(_EDITS))
        place = draw(places)
        if edit == "flip":
            anywhere = draw(strategies.integers(0, min(end, len(data)) - 1))
            data[anywhere] ^= 1 << draw(strategies.integers(0, 7))
        elif edit == "huge":
            data[place : place + 8] = struct.pack(
                "<Q", draw(strategies.sampled_from(_HUGE))
            )
        elif edit == "small":
            data[place : place + 4] = struct.pack(
                "<I", draw(strategies.integers(0, 300))
            )
        elif edit == "exchange":
            other = draw(places)
            one, two = bytes(data[place : place + 8]), bytes(data[other : other + 8])
            data[place : place + 8], data[other : other + 8] = two, one
        elif edit == "put":
            data[place:place] = draw(strategies.binary(min_size=1, max_size=12))
        else:
            del data[draw(strategies.integers(0, len(data))) :]
            if not data:
                break
    return bytes(data)


def _read_all(path: Path) -> None:
    model = open_gguf(path)
    for name, shape in model.shapes.items():
        assert model.read(name).shape == shape
    special_ids(model)
    tokenizer_json(model)


@contextlib.contextmanager
def _bounded(limit: float) -> Iterator[None]:
    """Fails if more bytes than `limit` are in use at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def _outcome(path: Path) -> str:
    try:
        _read_all(path)
    except UserError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error) and len(str(error)) < 600
        return "refused"
    return "opened"


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_file_that_is_spoilt_is_whole(is_installed, tmp_path, monkeypatch):
    if not is_installed:
        monkeypatch.setattr(gguf_files, "installed", lambda: None)
    (tmp_path / "a.gguf").write_bytes(_small.__wrapped__()[0])
    _read_all(tmp_path / "a.gguf")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, on spoilt scales
def test_a_thousand_spoilt_headers(tmp_path):
    path, outcomes = tmp_path / "a.gguf", {"opened": 0, "refused": 0}

    @settings(max_examples=1000, database=None)
    @given(data=_spoilt())
    def check(data: bytes) -> None:
        path.write_bytes(data)
        with _bounded(len(data) + _ROOM):
            outcomes[_outcome(path)] += 1

    check()
    assert outcomes["opened"] > 20 and outcomes["refused"] > 500


def test_a_long_list_costs_nothing_until_it_is_asked_for(tmp_path):
    """Half a million tokens of two letters: 5 MB, over 30 MB as strings."""
    whole, *_ = _small()
    count = 1 << 19
    key = b"tokenizer.ggml.tokens"
    head = whole[:8] + struct.pack("<QQ", 0, 1) + struct.pack("<Q", len(key)) + key
    start = struct.pack("<IIQ", 9, 8, count)
    data = head + start + (struct.pack("<Q", 2) + b"ab") * count
    (tmp_path / "a.gguf").write_bytes(data)
    with _bounded(1e6), pytest.raises(UserError, match="'general.architecture'"):
        open_gguf(tmp_path / "a.gguf")
