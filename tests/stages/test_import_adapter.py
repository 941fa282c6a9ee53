"""An adapter of PEFT brought into a run: merged, kept, and written back."""

import json
from pathlib import Path
import shutil

import jax
import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.interop import adapter, hf_config, peft, run
from genlm.model import lora, transformer
from genlm.model.lora import LoraConfig
from genlm.parallel import specs
from tests.command import complaints, contents, genlm
from tests.data_files import write_names

FILE = "adapter_model.safetensors"


def call(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """What a command that works says."""
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def mistake(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line of a command that fails."""
    assert main([str(a) for a in arguments]) == 1
    (line,) = complaints(capsys.readouterr().err)
    return line


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A run of a step."""
    folder = tmp_path_factory.mktemp("base")
    names = write_names(folder / "names.txt")
    recipe = ["experiments/pretrain_names.py:smoke", f"--config.data.paths={names}"]
    genlm("run", *recipe, "--workdir", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def given(base: Path, tmp_path_factory) -> tuple[Path, LoraConfig, dict]:
    """An adapter of that run's model in PEFT's format, and what is in it."""
    config = run.read_config(base)
    change = LoraConfig(3, 6.0, ("layers/attention/[qo]", "layers/mlp/*"))
    shapes = specs.shapes(lora.lora_specs(transformer.param_specs(config), change))
    random = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda x: random.normal(scale=0.1, size=x.shape).astype(np.float32), shapes
    )
    out = tmp_path_factory.mktemp("given") / "peft"
    peft.write_adapter(out, change, tree, config, hf_config.family_of(config), "tiny")
    return out, change, tree


@pytest.fixture(scope="module")
def tuned(base: Path, given: tuple, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    said = genlm("import", "--from", given[0], "--base", base, "--workdir", folder)
    assert "rank 3 on layers/attention/q, layers/attention/o, layers/" in said.stdout
    return folder


@pytest.mark.slow
def test_the_run_holds_the_merged_model(base: Path, given: tuple, tuned: Path):
    _, change, tree = given
    before, after = run.open_run(base), run.open_run(tuned)
    assert after.config == before.config and after.step == 0
    expected = lora.merge(before.params, tree, change)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        after.params,
        expected,
    )
    moved = after.params["layers"]["attention"]["o"]
    assert np.abs(moved - before.params["layers"]["attention"]["o"]).max() > 0.01
    files = [contents(folder / "tokenizer") for folder in (base, tuned)]
    assert list(files[0].values()) == list(files[1].values())


@pytest.mark.slow
def test_it_is_a_run_as_any_other(
    tuned: Path, given: tuple, base: Path, tmp_path: Path, capsys
):
    """It is verified, writes, is not made twice, and leaves as a whole model."""
    lineage = json.loads((tuned / "lineage.json").read_text())
    assert {"adapter/adapter.json", "adapter/adapter.safetensors"} < set(
        lineage["outputs"]
    )
    assert {str(base), str(given[0] / FILE)} < set(lineage["inputs"])
    call(capsys, "verify", tuned)
    call(capsys, "generate", "--from", tuned, "--prompt", "a", "--max-tokens", 3)
    before = contents(tuned)
    bring = ["import", "--from", given[0], "--workdir", tuned, "--base"]
    assert "already" in call(capsys, *bring, base)
    assert "was made from another" in mistake(capsys, *bring, tuned)
    assert contents(tuned) == before
    call(capsys, "export", "--from", tuned, "--to", "hf", "--out", tmp_path / "hf")
    assert (tmp_path / "hf" / "model.safetensors").is_file()


@pytest.mark.parametrize("done", ["config.json", "adapter", "checkpoints", "tokenizer"])
def test_an_import_that_was_cut_is_made_anew(
    done: str, tuned: Path, given: tuple, base: Path, tmp_path: Path, capsys
):
    """Whatever was the last thing that it wrote."""
    order = ["config.json", "adapter", "checkpoints", "tokenizer"]
    workdir = tmp_path / "run"
    for name in order[: order.index(done) + 1]:
        copy = shutil.copytree if (tuned / name).is_dir() else shutil.copy
        workdir.mkdir(exist_ok=True)
        copy(tuned / name, workdir / name)
    bring = ["import", "--from", given[0], "--workdir", workdir, "--base", base]
    assert "rank 3" in call(capsys, *bring)
    was, now = (
        json.loads((folder / "lineage.json").read_text())["outputs"]
        for folder in (tuned, workdir)
    )
    assert was.keys() == now.keys()
    assert all(was[name] == now[name] for name in was if "checkpoints" not in name)
    jax.tree.map(
        np.testing.assert_array_equal,
        run.open_run(workdir).params,
        run.open_run(tuned).params,
    )


def test_the_adapter_goes_out_as_it_came(
    tuned: Path, given: tuple, tmp_path: Path, capsys
):
    out = tmp_path / "out"
    peft_of = ["export", "--from", tuned, "--to", "peft", "--out", out]
    assert call(capsys, *peft_of) == f"{out}: the adapter of {tuned}\n"
    assert contents(out) == {
        out / path.name: data for path, data in contents(given[0]).items()
    }
    call(capsys, *peft_of, "--dtype", "float16")
    assert (out / FILE).stat().st_size < 0.7 * (given[0] / FILE).stat().st_size


def test_what_is_no_export(base: Path, tuned: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    said = mistake(capsys, "export", "--from", base, "--to", "peft", "--out", out)
    assert said == (
        f"genlm export: {base} has no adapter; genlm import --base makes such runs"
    )
    peft_of = ["export", "--from", tuned, "--to", "peft", "--out", out]
    assert "one adapter" in mistake(capsys, *peft_of, "--checkpoint", "best")
    broken = Path(shutil.copytree(tuned, tmp_path / "broken"))
    file = broken / adapter.FOLDER / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    said = mistake(capsys, "export", "--from", broken, "--to", "peft", "--out", out)
    assert said == f"genlm export: damaged: {file}: changed since it was written"
    assert not out.exists()


def test_what_is_no_import(base: Path, given: tuple, tmp_path: Path, capsys):
    path, workdir = given[0], tmp_path / "new"
    bring = ["import", "--workdir", workdir, "--from"]
    said = mistake(capsys, *bring, path)
    assert "is an adapter of PEFT; say with --base which run it changes" in said
    said = mistake(capsys, *bring, base, "--base", base)
    assert "holds no adapter_config.json" in said
    assert "holds no model" in mistake(capsys, *bring, path, "--base", path)
    assert "no directory none" in mistake(capsys, *bring, path, "--base", "none")
    bad = Path(shutil.copytree(path, tmp_path / "bad"))
    data = (bad / FILE).read_bytes()
    (bad / FILE).write_bytes(data[:-4] + np.float32("nan").tobytes())
    said = mistake(capsys, *bring, bad, "--base", base)
    assert "holds numbers that are not finite" in said
    assert not workdir.exists()
