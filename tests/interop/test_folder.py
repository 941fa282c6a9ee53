"""A Hugging Face folder: files of its own library open, and what is unsafe or damaged
is refused in one line that names it."""

import json
from pathlib import Path
import re
import shutil
from typing import Any, Callable

import ml_dtypes
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop import folder, hf_config, tensor_file, weights
from genlm.model.config import TransformerConfig
from tests.interop.test_families import GOLDEN, export, opened
from tests.interop.test_fuzz import header_of

INDEX = "model.safetensors.index.json"
NO_LIBRARY = "the safetensors library is not installed"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of a tiny Llama, in one file."""
    return Path(shutil.copytree(GOLDEN / "llama", tmp_path / "model"))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """The same in several files with an index."""
    params, config = opened(GOLDEN / "llama")
    export(tmp_path / "shards", params, config, "llama", max_shard_bytes=20_000)
    return tmp_path / "shards"


def refused(path: Path) -> str:
    """The line with which a folder is refused, when it is opened or loaded."""
    with pytest.raises(UserError) as caught:
        source = folder.open_folder(path)
        weights.load(source, TransformerConfig(**hf_config.to_config(source.config)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[dict], Any]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rewrite(model: Path, change: Callable[[dict], Any], rest: bytes = b"") -> None:
    """Change the header of the model's file in place, and add `rest` to its end."""
    path = model / "model.safetensors"
    header, data = header_of(path)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + rest)


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", "bfloat16"])
def test_files_of_the_library_itself(dtype: str, model: Path):
    """What safetensors writes is read, whatever its type, and in its own memory."""
    numpy = pytest.importorskip("safetensors.numpy", reason=NO_LIBRARY)
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    source = folder.open_folder(model)
    tensors = {name: source.read(name).astype(kind) for name in source.shapes}
    numpy.save_file(tensors, model / "model.safetensors", {"format": "pt"})
    again = folder.open_folder(model)
    assert again.shapes == source.shapes
    for name, tensor in tensors.items():
        read = again.read(name)
        assert read.dtype == np.float32 and read.flags.c_contiguous
        np.testing.assert_array_equal(read, tensor.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_library_reads_our_files(dtype: str, shards: Path, tmp_path: Path):
    safetensors = pytest.importorskip("safetensors", reason=NO_LIBRARY)
    params, config = opened(shards)
    export(tmp_path / "out", params, config, "llama", dtype=dtype)
    source = folder.open_folder(tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    with safetensors.safe_open(file, framework="numpy") as theirs:
        assert theirs.metadata()["format"] == "pt"
        assert sorted(theirs.keys()) == sorted(source.shapes)
        for name in source.shapes:
            tensor = theirs.get_tensor(name)
            assert tensor.dtype == np.dtype(getattr(ml_dtypes, dtype, dtype))
            np.testing.assert_array_equal(tensor.astype(np.float32), source.read(name))


@pytest.mark.parametrize("cut", [0, 7, 100, 20_000, -1])
def test_a_file_that_is_cut(cut: int, model: Path):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    assert re.search("beyond the file|is damaged", refused(model))


def test_a_file_that_is_cut_after_it_was_opened(model: Path):
    source = folder.open_folder(model)
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    last = max(source.places, key=lambda name: source.places[name][1].end)
    with pytest.raises(UserError, match="ends within the tensor"):
        source.read(last)


FIRST = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda h: h[FIRST].update(dtype="F8_E4M3"), "is of type 'F8_E4M3'; weights"),
        (lambda h: h[FIRST].update(dtype=["F32"]), r"is of type \['F32'\]"),
        (lambda h: h[FIRST].update(shape=[64, -32]), r"has the shape \[64, -32\]"),
        (lambda h: h[FIRST].update(shape=[64, 32.0]), r"has the shape \[64, 32.0\]"),
        (lambda h: h[FIRST].update(shape=[64, 31]), "does not fill"),
        (lambda h: h[FIRST].update(shape=[1] * 9), "has the shape"),
        (lambda h: h[FIRST].update(shape=[0, 2**40, 2**40]), "has the shape"),
        (lambda h: h[FIRST].update(data_offsets=[0]), r"has the data_offsets \[0\]"),
        (lambda h: h[FIRST].update(data_offsets=[0, 10**9]), "ends beyond the file"),
        (lambda h: h[FIRST].update(data_offsets=[9000, 8]), "ends beyond the file"),
        (lambda h: h[FIRST].update(data_offsets=[4, 8196]), "overlaps another|hole"),
        (lambda h: h[FIRST].update(more=1), "has not the keys dtype, shape"),
        (lambda h: h.update({FIRST: 5}), "has not the keys dtype, shape"),
        (lambda h: h.pop(FIRST), "leaves a hole|are of no tensor"),
        (lambda h: h.update(__metadata__={"format": 1}), "no table of strings"),
        (lambda h: h.update(__metadata__=[]), "no table of strings"),
    ],
)
def test_a_header_that_lies(change: Callable, complaint: str, model: Path):
    rewrite(model, change)
    assert re.search(complaint, refused(model))


def test_bytes_after_the_last_tensor(model: Path):
    rewrite(model, lambda header: None, rest=b"\0" * 12)
    assert "12 bytes are of no tensor" in refused(model)


def test_the_same_tensor_twice(model: Path):
    path = model / "model.safetensors"
    header, data = header_of(path)
    text = json.dumps(header)[:-1] + f', "{FIRST}": {json.dumps(header[FIRST])}}}'
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data)
    assert f"has the key '{FIRST}' twice" in refused(model)


@pytest.mark.parametrize(
    "target, complaint",
    [
        ("../model.safetensors", "points outside its folder: '../model.safetensors'"),
        ("/etc/model.safetensors", "points outside its folder"),
        ("sub/model.safetensors", "points outside its folder"),
        ("..safetensors", "lacks the file '..safetensors'"),
        ("model\0.safetensors", "points outside its folder"),
        ("x" * 300 + ".safetensors", "cannot read|lacks the file"),
        ("model.bin", f"says that '{FIRST}' is in 'model.bin'"),
        (7, f"says that '{FIRST}' is in 7"),
        ("model-00009-of-00004.safetensors", "lacks the file"),
    ],
)
def test_an_index_that_points_elsewhere(target: Any, complaint: str, shards: Path):
    edit(shards / INDEX, lambda index: index["weight_map"].update({FIRST: target}))
    assert re.search(complaint, refused(shards))


def test_a_link_that_points_outside(shards: Path, tmp_path: Path):
    name = "model-00002-of-00004.safetensors"
    (shards / name).rename(tmp_path / name)
    (shards / name).symlink_to(tmp_path / name)
    assert f"{name} is a link that points outside its folder" in refused(shards)
    (shards / name).unlink()
    (shards / name).symlink_to(shards / name)  # to itself
    assert "cannot read" in refused(shards) or "lacks the file" in refused(shards)


def test_links_of_a_hugging_face_cache(shards: Path, tmp_path: Path):
    """snapshots/<revision>/<name> is a link to blobs/<hash> there."""
    cache = tmp_path / "models--someone--llama"
    snapshot = cache / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for i, file in enumerate(sorted(shards.iterdir())):
        blob = cache / "blobs" / f"{i:040x}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    params, _ = opened(snapshot)
    np.testing.assert_array_equal(
        params["embedding"], folder.open_folder(GOLDEN / "llama").read(FIRST)
    )


def test_an_index_and_its_files_that_differ(shards: Path):
    edit(shards / INDEX, lambda index: index["weight_map"].pop(FIRST))
    assert f"holds '{FIRST}', which its index does not list" in refused(shards)
    first = "model-00001-of-00004.safetensors"
    edit(shards / INDEX, lambda i: i["weight_map"].update({FIRST: first, "x": first}))
    assert f"{first} lacks the tensor 'x' of its index" in refused(shards)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": []}', "{", ""])
def test_an_index_that_is_none(text: str, shards: Path):
    (shards / INDEX).write_text(text)
    assert f"{INDEX} is damaged" in refused(shards)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("[]", "holds no JSON object"),
        ("{", "is damaged: Expecting"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ("\xff", "is damaged"),
        ('{"a":' + "[" * 100_000, "is nested too deeply"),
        ("{}", "lacks model_type"),
    ],
)
def test_a_config_that_is_none(text: str, complaint: str, model: Path):
    (model / "config.json").write_text(text, "latin-1")
    assert complaint in refused(model)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, "with code of its own"),
        ({"quantization_config": {"quant_method": "awq"}}, "('awq'): its weights are"),
        (
            {"quantization_config": {"load_in_4bit": True}},
            "has quantization_config: its",
        ),
        ({"compression_config": 1}, "has compression_config: its weights"),
    ],
)
def test_models_that_are_not_plain(changes: dict, complaint: str, model: Path):
    edit(model / "config.json", lambda config: config.update(changes))
    assert complaint in refused(model)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "consolidated.00.pth", "weights.pt", "model.ckpt"]
)
def test_a_pickle(name: str, model: Path):
    (model / "model.safetensors").rename(model / name)
    for path in (model, model / name):
        line = refused(path)
        assert f"{name} is a pickle, which can run code" in line
        assert "environment with torch and transformers: python -c '" in line


@pytest.mark.parametrize(
    "prepare, complaint",
    [
        (lambda p: (p / "config.json").unlink(), "holds no config.json"),
        (lambda p: (p / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda p: shutil.rmtree(p), "no folder"),
        (
            lambda p: [
                shutil.copy(p / "model.safetensors", p / f"{n}.safetensors")
                for n in "ab"
            ]
            and (p / "model.safetensors").unlink(),
            "but several files: ['a.safetensors', 'b.safetensors']",
        ),
    ],
)
def test_folders_that_hold_no_model(prepare: Callable, complaint: str, model: Path):
    prepare(model)
    assert complaint in refused(model)


def test_a_file_for_a_folder(model: Path):
    assert "give the folder" in refused(model / "model.safetensors")


def test_one_file_of_another_name(model: Path):
    (model / "model.safetensors").rename(model / "weights.safetensors")
    assert folder.open_folder(model).shapes[FIRST] == (64, 32)


def take(name: str, source: Path, **more: np.ndarray) -> None:
    """Write a model's file anew, without a tensor, and with others."""
    opened = folder.open_folder(source)
    tensors = {n: opened.read(n) for n in opened.shapes if n != name} | more
    shapes = {n: t.shape for n, t in tensors.items()}
    file = source / "model.safetensors"
    tensor_file.write(file, tensors.items(), shapes, "float32")


def test_tensors_that_are_missing_too_many_or_of_another_shape(model: Path):
    name = "model.layers.1.mlp.up_proj.weight"
    take(name, model)
    assert f"lacks the tensor {name}" in refused(model)
    take("", model, **{name: np.zeros((48, 31), np.float32)})
    assert f"{name} is of shape (48, 31), but its config asks for (48, 32)" in refused(
        model
    )
    extra = {"score.weight": np.zeros(3, np.float32)}
    take("", model, **{name: np.zeros((48, 32), np.float32), **extra})
    assert "1 tensor(s) are none of a llama model" in (line := refused(model))
    assert "'score.weight'" in line


def test_a_tied_head_is_left_out_where_it_is_the_embedding(model: Path):
    embedding = folder.open_folder(model).read(FIRST)
    take("", model, **{"lm_head.weight": embedding})
    assert "unembedding" not in opened(model)[0]
    take("", model, **{"lm_head.weight": embedding + 1})
    assert "ties lm_head.weight to model.embed_tokens.weight" in refused(model)


def test_buffers_of_older_files_are_left_out(tmp_path: Path):
    """The published GPT-2 has its names without a prefix, and its causal masks."""
    path = Path(shutil.copytree(GOLDEN / "gpt2", tmp_path / "gpt2"))
    expected, _ = opened(path)
    source = folder.open_folder(path)
    old = {n.removeprefix("transformer."): source.read(n) for n in source.shapes}
    mask = np.tril(np.ones((1, 1, 128, 128), np.float32))
    old |= {"h.0.attn.bias": mask, "h.1.attn.masked_bias": np.float32([-1e4])}
    shapes = {n: t.shape for n, t in old.items()}
    file = path / "model.safetensors"
    tensor_file.write(file, old.items(), shapes, "float32")
    np.testing.assert_array_equal(
        opened(path)[0]["layers"]["attention"]["k"],
        expected["layers"]["attention"]["k"],
    )


def test_an_export_takes_no_other_folders_place(model: Path, tmp_path: Path):
    params, config = opened(model)
    for path in (model, model / "config.json"):
        with pytest.raises(UserError, match="holds something else; export to a new"):
            export(path, params, config, "llama")
    (tmp_path / "empty").mkdir()
    export(tmp_path / "empty", params, config, "llama")
    assert opened(tmp_path / "empty")[1] == config


def test_an_export_that_fails_leaves_what_was_there(model: Path, tmp_path: Path):
    params, config = opened(model)
    export(tmp_path / "out", params, config, "llama")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    params["final_norm"][:] = 1e9  # beyond float16
    with pytest.raises(UserError, match="too large for float16"):
        export(tmp_path / "out", params, config, "llama", dtype="float16")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]
