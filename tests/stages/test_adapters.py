"""`genlm generate --adapter`: one base, several adapters, one batch."""

import dataclasses
import json
from pathlib import Path
import shutil

import jax
import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.interop import adapter, hf_config, peft, run
from genlm.interop.adapter import Adapter
from genlm.model import lora, transformer
from genlm.model.lora import LoraConfig
from genlm.parallel import specs
from genlm.runs import lineage
from tests.command import genlm
from tests.data_files import write_names
from tests.stages.test_import_adapter import call, mistake

pytestmark = pytest.mark.slow  # each trains a model


CHANGES = {
    "lora": LoraConfig(3, 6.0, ("layers/attention/[qo]", "layers/mlp/*")),
    "dora": LoraConfig(2, 9.0, ("layers/attention/*", "layers/mlp/down"), dora=True),
}
HOW = ("--max-tokens", "8", "--temperature", "0.5", "--seed", "4", "--json")
PROMPTS = ("--prompt", "a", "--prompt", "the b", "--prompt", "an")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    names = write_names(folder / "names.txt")
    recipe = ["experiments/pretrain_names.py:smoke", f"--config.data.paths={names}"]
    genlm("run", *recipe, "--workdir", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def given(base: Path, tmp_path_factory) -> dict[str, Path]:
    """Adapters of that run's model as folders of PEFT's."""
    config = run.read_config(base)
    family, random = hf_config.family_of(config), np.random.default_rng(0)
    out = tmp_path_factory.mktemp("given")
    params = run.open_run(base).params
    for name, change in CHANGES.items():
        tree = lora.initial(
            params, transformer.param_specs(config), change, jax.random.key(0)
        )
        tree = jax.tree.map(
            lambda x: np.asarray(x) + random.normal(scale=0.3, size=x.shape), tree
        )
        tree = jax.tree.map(lambda x: x.astype(np.float32), tree)
        peft.write_adapter(out / name, change, tree, config, family, "")
    return {name: out / name for name in CHANGES}


@pytest.fixture(scope="module")
def tuned(base: Path, given: dict[str, Path], tmp_path_factory) -> dict[str, Path]:
    """The same as runs, merged."""
    out = tmp_path_factory.mktemp("tuned")
    for name, folder in given.items():
        bring = ["import", "--from", folder, "--base", base, "--workdir", out / name]
        assert main([str(x) for x in bring]) == 0
    return {name: out / name for name in given}


def rows_of(said: str) -> list[dict]:
    return [json.loads(line) for line in said.splitlines()]


def test_each_answers_as_it_does_merged(base, given, tuned, capsys):
    names = [tuned["lora"], "base", given["dora"]]
    asked = [x for name in names for x in ("--adapter", name)]
    rows = rows_of(call(capsys, "generate", "--from", base, *PROMPTS, *HOW, *asked))
    assert [x["adapter"] for x in rows] == [str(name) for name in names] * 3
    assert [x["prompt"] for x in rows] == ["a"] * 3 + ["the b"] * 3 + ["an"] * 3
    for name, folder in zip(names, (tuned["lora"], base, tuned["dora"])):
        alone = call(capsys, "generate", "--from", folder, *PROMPTS, *HOW)
        own = [x for x in rows if x["adapter"] == str(name)]
        for ours, theirs in zip(own, rows_of(alone), strict=True):
            np.testing.assert_allclose(ours["logprobs"], theirs["logprobs"], atol=1e-4)
            assert ours | theirs == ours | {"logprobs": theirs["logprobs"]}
    assert len({x["text"] for x in rows}) > 3


def test_without_json_each_says_whose_it_is(base, tuned, capsys):
    asked = ("--adapter", tuned["dora"], "--adapter", "base", "--max-tokens", "3")
    said = call(capsys, "generate", "--from", base, "--prompt", "a", *asked)
    assert said.startswith(f"--- {tuned['dora']}\na") and "\n--- base\na" in said


def test_what_is_no_adapter_of_it(base, given, tuned, tmp_path, capsys):
    def said(source: Path, name: object) -> str:
        return mistake(capsys, "generate", "--from", source, "--adapter", name)

    assert f"{base} has no adapter" in said(base, base)
    assert "no directory none" in said(base, "none")
    assert "holds no model" in said(base, tmp_path)
    made_from = f"{tuned['lora']} was made from {base}, and not from {tuned['dora']}"
    assert made_from in said(tuned["dora"], tuned["lora"])
    bad = Path(shutil.copytree(given["lora"], tmp_path / "bad"))
    file = bad / "adapter_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-4] + np.float32("nan").tobytes())
    assert f"{bad} holds numbers that are not finite" in said(base, bad)
    config = dataclasses.replace(run.read_config(base), model_dim=48)
    change = CHANGES["lora"]
    tree = lora.lora_specs(transformer.param_specs(config), change)
    tree = jax.tree.map(lambda x: np.ones(x.shape, np.float32), specs.shapes(tree))
    peft.write_adapter(tmp_path / "wide", change, tree, config, "llama", "")
    assert "is of shape (3, 48), but" in said(base, tmp_path / "wide")


def test_an_adapter_of_before_dora_is_read(base, given, tmp_path):
    """Its adapter.json says neither dropout nor dora."""
    config = run.read_config(base)
    change, tree = peft.read_adapter(given["lora"], config, "llama")
    adapter.save(tmp_path, Adapter(change, tree, ""))
    about = tmp_path / "adapter" / "adapter.json"
    content = json.loads(about.read_text())
    for name in ("dropout", "dora"):
        content["lora"].pop(name)
    about.write_text(json.dumps(content))
    lineage.write(tmp_path, {}, {})
    assert adapter.load(tmp_path, config).config == change
