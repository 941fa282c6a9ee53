"""Adapters of PEFT: what it wrote itself (tests/golden/make_peft.py) comes in with its
logits and goes out bit for bit; what cannot be held is refused in one line."""

import functools
import json
from pathlib import Path
import re
import shutil
from typing import Any, Callable

from hypothesis import given, settings
import jax
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop import adapter, hf_config, peft, tensor_file
from genlm.interop.adapter import Adapter
from genlm.model import lora, transformer
from genlm.model.config import TransformerConfig
from genlm.model.lora import LoraConfig
from tests.golden import make_peft
from tests.interop import test_families, test_fuzz
from tests.interop.test_families import TOLERANCE, logits_of
from tests.interop.test_folder import edit

GOLDEN = make_peft.FOLDER
NAMES = sorted(make_peft.ADAPTERS)
CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
every_adapter = pytest.mark.parametrize("name", NAMES)


@functools.cache
def base_of(name: str) -> tuple[dict, TransformerConfig, str]:
    """Parameters, shape and family of a tiny model."""
    params, config = test_families.opened(test_families.GOLDEN / name)
    return params, config, hf_config.family_of(config)


def tensors_of(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, as integers, so that bits are compared."""
    found = tensor_file.read_header(file).tensors
    return {n: tensor_file.read(file, n, e).view(np.int32) for n, e in found.items()}


def require_same_tensors(one: Path, other: Path) -> None:
    a, b = tensors_of(one / FILE), tensors_of(other / FILE)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A copy of the adapter of a tiny Llama."""
    return Path(shutil.copytree(GOLDEN / "llama", tmp_path / "adapter"))


def read(path: Path, name: str = "llama") -> tuple[LoraConfig, dict[str, Any]]:
    _, config, family = base_of(name)
    return peft.read_adapter(path, config, family)


def refused(path: Path, name: str = "llama") -> str:
    """The line with which an adapter is refused."""
    with pytest.raises(UserError) as caught:
        read(path, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_adapter
def test_merged_logits_are_those_of_peft(name: str):
    params, config, family = base_of(name)
    change, tree = peft.read_adapter(GOLDEN / name, config, family)
    with np.load(GOLDEN / name / "expected.npz") as file:
        tokens, logits = file["tokens"], file["logits"]
    mask = np.ones_like(tokens)
    ours = logits_of(lora.merge(params, tree, change), config, tokens, mask)
    assert np.abs(ours - logits).max() <= TOLERANCE
    before = logits_of(params, config, tokens, mask)
    assert np.abs(before - logits).max() > 1


@every_adapter
def test_import_then_export_is_the_identity(name: str, tmp_path: Path):
    """Also through the files of a run, and over an earlier export."""
    _, config, family = base_of(name)
    change, tree = peft.read_adapter(GOLDEN / name, config, family)
    base = peft.base_name(GOLDEN / name, config)
    assert base == f"tiny/{name}"
    adapter.save(tmp_path, Adapter(change, tree, base))
    held = adapter.load(tmp_path, config)
    assert held.config == change and held.base == base
    for _ in range(2):
        peft.write_adapter(
            tmp_path / "out", held.config, held.tree, config, family, held.base
        )
        require_same_tensors(tmp_path / "out", GOLDEN / name)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [CONFIG, FILE]
    again, tree_again = peft.read_adapter(tmp_path / "out", config, family)
    assert again == change
    jax.tree.map(np.testing.assert_array_equal, tree_again, tree)
    written, theirs = (
        json.loads((folder / CONFIG).read_text())
        for folder in (tmp_path / "out", GOLDEN / name)
    )
    free = {"target_modules"}
    assert written.keys() < theirs.keys()
    for key in written.keys() - free:
        assert written[key] == theirs[key], key


def test_modules_are_named_as_peft_looks_for_them(tmp_path: Path):
    """c_proj is of attention and of the mlp, so that one word would be both."""
    _, config, family = base_of("gpt2")
    named = {}
    for targets in [("*/o",), ("*/o", "*/down"), ("*/[qkv]",)]:
        change = LoraConfig(2, 2.0, targets)
        specs = lora.lora_specs(transformer.param_specs(config), change)
        tree = jax.tree.map(lambda spec: np.ones(spec.shape, np.float32), specs)
        out = tmp_path / "out"
        peft.write_adapter(out, change, tree, config, family, "")
        written = json.loads((out / CONFIG).read_text())
        assert written["base_model_name_or_path"] is None
        named[targets] = written["target_modules"]
    assert list(named.values()) == [["attn.c_proj"], ["c_proj"], ["c_attn"]]


def test_matrices_that_are_one_in_the_file(tmp_path: Path):
    """GPT-2's queries, keys and values have one lora_A."""
    _, config, family = base_of("gpt2")
    change, tree = peft.read_adapter(GOLDEN / "gpt2", config, family)
    attention = tree["layers"]["attention"]
    keys = attention.pop("k")

    def write() -> None:
        peft.write_adapter(tmp_path / "out", change, tree, config, family, "")

    with pytest.raises(UserError, match="h.0.attn.c_attn is one matrix, but .*/k is"):
        write()
    attention["k"] = {**keys, "a": keys["a"] + 1}
    with pytest.raises(UserError, match="h.0.attn.c_attn is one matrix, but .* no a"):
        write()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"r": 0}, "r is 0; a whole number"),
        ({"r": 4.0}, r"r is 4.0; a whole number"),
        ({"r": True}, "r is True"),
        ({"r": None}, "r is None"),
        ({"r": 5}, r"is of shape \(4, 32\), but r = 5 and the model ask for \(5, 32\)"),
        ({"lora_alpha": -1}, "lora_alpha is -1; a positive number"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"use_rslora": 1}, "use_rslora is 1; true or false"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; 'LORA' works"),
        ({"peft_type": None}, "peft_type is None"),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'; null works, 'CAUSAL_LM'"),
        ({"use_dora": "yes"}, "use_dora is 'yes'; true or false"),
        ({"use_dora": True}, "lacks the tensor .*layers.0.*q_proj.lora_magnitude_vect"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0; a number from 0 and below 1"),
        ({"lora_dropout": "0"}, "lora_dropout is '0'"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern is"),
        ({"layers_to_transform": [0]}, r"layers_to_transform is \[0\]; only .* all 2"),
        ({"layers_to_transform": 1}, "layers_to_transform is 1"),
        ({"layers_to_transform": [0, "1"]}, "layers_to_transform is"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is"),
        ({"target_parameters": ["w"]}, "target_parameters is"),
        ({"a_key_of_the_future": 1}, "a_key_of_the_future is 1; it is not known"),
        ({"target_modules": [1]}, r"target_modules is \[1\]; a list of names"),
        ({"target_modules": {"q_proj": 1}}, "target_modules is"),
        ({"target_modules": ["q_proj"]}, "changes model.layers.0.self_attn.k_proj, wh"),
        ({"target_modules": []}, "which target_modules does not name"),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path is 5; a name"),
    ],
    ids=lambda x: json.dumps(x)[:40] if isinstance(x, dict) else "",
)
def test_a_config_that_is_not_held(changes: dict, complaint: str, llama: Path):
    edit(llama / CONFIG, lambda config: config.update(changes))
    assert re.search(complaint, refused(llama))


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "all-linear"},
        {"target_modules": "(a+)+$"},  # is not run
        {"target_modules": None},
        {"target_modules": ["self_attn.q_proj", *make_peft.EVERY, "query_key_value"]},
        {"layers_to_transform": [1, 0], "layers_pattern": "layers"},
        {"lora_dropout": 0.1, "fan_in_fan_out": True, "revision": "main"},
        {"auto_mapping": {"base_model_class": "Model", "parent_library": "os"}},
        {"init_lora_weights": "gaussian", "task_type": None, "bias": None},
    ],
)
def test_what_changes_nothing(changes: dict, llama: Path):
    expected, tree = read(llama)
    edit(llama / CONFIG, lambda config: config.update(changes))
    again, tree_again = read(llama)
    assert again == expected
    jax.tree.map(np.testing.assert_array_equal, tree_again, tree)


PREFIX = "base_model.model.model.layers."


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Change the tensors of a folder in place."""
    file = folder / FILE
    found = tensor_file.read_header(file).tensors
    tensors = {name: tensor_file.read(file, name, e) for name, e in found.items()}
    change(tensors)
    shapes = {name: x.shape for name, x in tensors.items()}
    tensor_file.write(file, tensors.items(), shapes, "float32")


@pytest.mark.parametrize(
    "change, complaint",
    [
        (
            lambda x: x.pop(f"{PREFIX}1.mlp.up_proj.lora_B.weight"),
            f"lacks the tensor {PREFIX}1.mlp.up_proj.lora_B.weight; a matrix is",
        ),
        (
            lambda x: [x.pop(n) for n in list(x) if f"{PREFIX}0.mlp.up_proj" in n],
            f"lacks the tensor {PREFIX}0.mlp.up_proj.lora_A.weight",
        ),
        (
            lambda x: [x.pop(n) for n in list(x) if "up_proj" in n],
            "lacks a change of model.layers.0.mlp.up_proj, which target_modules has",
        ),
        (
            lambda x: x.update({f"{PREFIX}2.mlp.up_proj.lora_A.weight": np.ones(3)}),
            f"holds '{PREFIX}2.mlp.up_proj.lora_A.weight', which changes no matrix",
        ),
        (
            lambda x: x.update(
                {"base_model.model.model.embed_tokens.lora_embedding_A": np.ones(3)}
            ),
            "embed_tokens.lora_embedding_A', which changes no matrix of attention",
        ),
        (
            lambda x: x.update({f"{PREFIX}0.mlp.up_proj.lora_B.bias": np.ones(3)}),
            "lora_B.bias', which changes no matrix",
        ),
        (
            lambda x: x.update(
                {f"{PREFIX}0.self_attn.q_proj.lora_B.weight": np.ones(3)}
            ),
            "is of shape (3,), but r = 4 and the model ask for (32, 4)",
        ),
        (lambda x: x.clear(), "holds no tensors"),
    ],
    ids=range(8),
)
def test_tensors_that_are_not_as_they_should(
    change: Callable, complaint: str, llama: Path
):
    rewrite(llama, change)
    assert complaint in refused(llama)


def test_an_adapter_of_another_model():
    assert "h.0.attn.c_attn.lora_A.weight', which changes no" in refused(
        GOLDEN / "gpt2"
    )
    assert "which changes no matrix" in refused(GOLDEN / "llama", "qwen3_moe")


def test_a_folder_without_an_adapter(llama: Path, tmp_path: Path):
    assert "holds no adapter_config.json" in refused(test_families.GOLDEN / "llama")
    assert "holds no adapter_config.json" in refused(tmp_path / "none")
    (llama / FILE).rename(tmp_path / FILE)
    assert f"lacks the file '{FILE}'" in refused(llama)
    (llama / FILE).symlink_to(tmp_path / FILE)
    assert "is a link that points outside its folder" in refused(llama)


def test_a_pickle(llama: Path):
    (llama / FILE).unlink()
    (llama / "adapter_model.bin").write_bytes(b"\x80\x04.")
    said = refused(llama)
    assert f"{llama}/adapter_model.bin is a pickle" in said
    assert "torch.load" in said and f"{llama}/{FILE}" in said


def test_an_export_takes_no_other_folders_place(llama: Path):
    _, config, family = base_of("llama")
    change, tree = read(llama)
    with pytest.raises(UserError, match="holds something else"):
        peft.write_adapter(llama, change, tree, config, family, "")


def test_a_run_without_an_adapter_or_with_a_damaged_one(tmp_path: Path):
    _, config, _ = base_of("llama")
    with pytest.raises(UserError, match="has no adapter; genlm import --base makes"):
        adapter.load(tmp_path, config)
    change, tree = read(GOLDEN / "llama")
    adapter.save(tmp_path, Adapter(change, tree, ""))
    _, other, _ = base_of("gemma2")
    with pytest.raises(UserError, match="damaged: layers/.* is not as it was made"):
        adapter.load(tmp_path, other)
    about = tmp_path / "adapter" / "adapter.json"
    edit(about, lambda content: content["lora"].pop("rank"))
    with pytest.raises(UserError, match="damaged, or of another version.*'rank'"):
        adapter.load(tmp_path, config)


SETTINGS = json.loads((GOLDEN / "llama" / CONFIG).read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "adapter"
    return Path(shutil.copytree(GOLDEN / "llama", folder))


@settings(test_fuzz.fuzz, max_examples=300)
@given(
    test_fuzz.changed_json(SETTINGS)
    | test_fuzz.changed_bytes(json.dumps(SETTINGS).encode())
)
def test_configs_changed_at_random(home: Path, text: bytes):
    (home / CONFIG).write_bytes(text)
    size = (home / FILE).stat().st_size + len(text)
    test_fuzz.outcome(lambda: read(home), size)
