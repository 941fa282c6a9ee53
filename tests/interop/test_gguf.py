"""A real GGUF file, and every kind of block, against the `gguf` library's reader."""

import json
from pathlib import Path
import tracemalloc

import gguf
from gguf.quants import dequantize
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop.gguf import open_gguf
from genlm.interop.gguf_blocks import KINDS
from genlm.interop.gguf_tokenizer import tokenizer_json
from genlm.interop.gguf_vocabulary import special_ids
from tests.interop import gguf_files

GOLDEN = Path(__file__).parents[1] / "golden" / "smollm2_encodings.json"
GPT2 = {
    "{arch}.context_length": 8,
    "{arch}.embedding_length": 256,
    "{arch}.feed_forward_length": 512,
    "{arch}.attention.head_count": 4,
    "{arch}.attention.layer_norm_epsilon": 1e-5,
    "{arch}.block_count": 1,
}


@pytest.fixture(scope="module")
def smollm2():
    return open_gguf(gguf_files.smollm2())


@pytest.mark.slow
def test_every_weight_of_a_real_model(smollm2):
    """As llama.cpp's own reader has them; Q and K in transformers' order of rows."""
    reader = gguf.GGUFReader(smollm2.header.path)
    seen = set()
    for name, shape in smollm2.shapes.items():
        stored = _stored(name)
        tensor = next(t for t in reader.tensors if t.name == stored)
        expected = dequantize(tensor.data, tensor.tensor_type)
        got = smollm2.read(name)
        if ".attn_q" in stored or ".attn_k" in stored:
            got = gguf_files.permute(got, got.shape[0] // 64)
        assert got.shape == shape and got.dtype == np.float32
        np.testing.assert_array_equal(got, expected, name)
        seen.add(stored)
    assert seen == {t.name for t in reader.tensors}


def _stored(name: str) -> str:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    return names.get_name(name, try_suffixes=(".weight",))


def test_the_config_of_a_real_model(smollm2):
    config = smollm2.config
    assert config["model_type"] == "llama" and config["tie_word_embeddings"]
    assert (config["num_hidden_layers"], config["head_dim"]) == (30, 64)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (9, 3)
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-5, 100000.0)
    assert config["rope_scaling"] is None and config["vocab_size"] == 49152


def test_real_text_is_encoded_as_by_transformers(smollm2):
    tokenizers = pytest.importorskip("tokenizers")
    inside = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(smollm2)))
    rows = json.loads(GOLDEN.read_text("utf-8"))
    assert len(rows) > 200
    for text, ids in rows:
        assert inside.encode(text).ids == ids, text
        assert inside.decode(ids, skip_special_tokens=False) == text


def test_the_special_ids_of_a_real_model(smollm2):
    ids = special_ids(smollm2)
    assert (ids.bos, ids.eos, ids.eot, ids.pad, ids.unknown) == (1, 2, 2, 2, 0)
    assert not ids.add_bos and not ids.add_eos
    assert ids.chat_template is not None and "<|im_start|>" in ids.chat_template


def test_text_spells_no_control_token(smollm2):
    tokenizers = pytest.importorskip("tokenizers")
    inside = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(smollm2)))
    assert inside.encode("<|im_end|>").ids == [2]
    inside.encode_special_tokens = True
    assert not set(inside.encode("<|im_end|>").ids) & set(range(17))


def _gpt2(path: Path, kind: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A GPT-2 of one layer, its matrices packed as `kind`; its tensors unpacked by the
    library in one go."""
    number = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, "gpt2")
    for key, value in GPT2.items():
        gguf_files.add(writer, key.replace("{arch}", "gpt2"), value)
    expected = {}
    for name, shape in _gpt2_shapes().items():
        packed = _packed(shape, number if len(shape) > 1 else None, rng)
        own = number if len(shape) > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, packed, raw_dtype=own)
        expected[name] = dequantize(packed, own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _gpt2_shapes() -> dict[str, tuple[int, ...]]:
    layer = {
        "attn_norm": (256,),
        "attn_qkv": (768, 256),
        "attn_output": (256, 256),
        "ffn_norm": (256,),
        "ffn_up": (512, 256),
        "ffn_down": (256, 512),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (300, 256),
        "position_embd.weight": (8, 256),
        "output_norm.weight": (256,),
        "output_norm.bias": (256,),
    }
    for name, shape in layer.items():
        shapes[f"blk.0.{name}.weight"] = shape
        shapes[f"blk.0.{name}.bias"] = shape[:1]
    return shapes


def _packed(shape, number, rng) -> np.ndarray:
    """Random weights as `number` packs them, or random blocks if the library cannot."""
    weights = rng.normal(size=shape).astype(np.float32)
    if number is None:
        return weights
    try:
        return gguf.quants.quantize(weights, number)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[number]
        packed = rng.integers(0, 60, (shape[0], shape[1] // block * size), np.uint8)
        return packed  # half floats below 2: no scale is infinite


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_block(tmp_path, kind):
    expected = _gpt2(tmp_path / "a.gguf", kind, np.random.default_rng(0))
    model = open_gguf(tmp_path / "a.gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, 1)
    for name in model.shapes:
        short = name.removeprefix("transformer.")
        stored = expected[names.get_name(short, try_suffixes=(".weight", ".bias"))]
        is_transposed = stored.ndim > 1 and ".c_" in name
        np.testing.assert_array_equal(
            model.read(name), stored.T if is_transposed else stored
        )
    assert len(model.shapes) == len(expected)


def test_a_kind_that_is_not_read_is_named(tmp_path):
    _gpt2(tmp_path / "a.gguf", "IQ4_NL", np.random.default_rng(0))
    with pytest.raises(UserError, match="'token_embd.weight' is of type 20, IQ4_NL"):
        open_gguf(tmp_path / "a.gguf")


def test_a_large_tensor_takes_little_more_memory_than_its_result(tmp_path):
    tensors = {n: np.zeros(s, np.float32) for n, s in _gpt2_shapes().items()}
    tensors["token_embd.weight"] = weights = np.zeros((1 << 16, 256), np.float32)
    kind = gguf.GGMLQuantizationType.Q4_0
    path = gguf_files.write(tmp_path / "a.gguf", "gpt2", GPT2, tensors, kind)
    model = open_gguf(path)
    tracemalloc.start()
    try:
        model.read("transformer.wte.weight")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < weights.nbytes + 20e6
