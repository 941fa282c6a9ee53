"""Mistakes in the directories that a run writes to or reads from."""

from pathlib import Path
import shutil
import time

import jax.numpy as jnp
import numpy as np
import pytest

from genlm import stages
from genlm.cli.__main__ import main
from genlm.runs import directory, metrics
from tests.bad_input.recipes import EVALUATE_ONLY, NAMES, PREPARE_ONLY, overrides
from tests.command import contents, genlm, mistake, start
from tests.data_files import write_names


def test_workdir_is_empty(prepare_only: Path):
    assert "--workdir is empty" in mistake("run", prepare_only, "--workdir", "")


def test_workdir_has_a_name_that_is_no_text(prepare_only: Path, tmp_path: Path):
    line = mistake("run", prepare_only, "--workdir", tmp_path / "\udcff")
    assert "--workdir" in line and "is not UTF-8" in line
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("below", ["names.txt", "names.txt/run", "/proc/run"])
def test_workdir_cannot_be(below: str, prepare_only: Path, names: Path):
    before = names.read_bytes()
    paths = f"--config.data.paths={names}"
    workdir = names.parent / below
    line = mistake("run", prepare_only, "--workdir", workdir, paths)
    assert f"cannot make {workdir}" in line
    assert names.read_bytes() == before


def test_workdir_of_other_settings(run: Path, names: Path, tmp_path: Path):
    other = tmp_path / "other.txt"
    other.write_bytes(names.read_bytes())
    before = contents(run)
    for key, value, named in [
        ("model.model_dim", 64, "model.model_dim=32, now 64"),
        ("data.paths", other, "data.paths"),
        ("seed", 1, "seed=0, now 1"),
    ]:
        settings = {"data.paths": names, key: value}
        line = mistake("run", NAMES, "--workdir", run, *overrides(settings))
        assert named in line and "--workdir" in line, line
    assert contents(run) == before


def test_workdir_of_another_text(prepare_only: Path, tmp_path: Path):
    text = write_names(tmp_path / "text.txt")
    command = ["run", prepare_only, "--workdir", tmp_path / "run"]
    command += [f"--config.data.paths={text}"]
    genlm(*command)
    before = contents(tmp_path / "run")
    text.write_text(text.read_text().replace("a", "b"))
    line = mistake(*command)
    assert str(text) in line and "--workdir" in line
    assert contents(tmp_path / "run") == before


def test_workdir_of_another_kind(run: Path, prepare_only: Path, tmp_path: Path):
    before = contents(run)
    line = mistake("run", "experiments/life.py:smoke", "--workdir", run)
    assert "pretrain stage" in line and "life" in line
    line = mistake("run", prepare_only, "--workdir", run)
    assert "pretrain stage" in line and "prepare stage" in line
    assert contents(run) == before
    (tmp_path / "config.json").write_text('{"architectures": ["Llama"]}')
    line = mistake("run", prepare_only, "--workdir", tmp_path)
    assert "config.json is of another program" in line
    (tmp_path / "config.json").write_text("{")
    line = mistake("run", prepare_only, "--workdir", tmp_path)
    assert "cannot read" in line and "config.json" in line
    assert list(contents(tmp_path).values()) == [b"{"]


@pytest.mark.parametrize("name", ["checkpoints/1/model.pt", "metrics.jsonl"])
def test_workdir_of_another_program(name: str, tmp_path: Path, mistake_here):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    for recipe in (NAMES, "experiments/life.py:smoke"):
        said = mistake_here("run", recipe, "--workdir", tmp_path)
        assert f"has {name.split('/')[0]}, and no config.json" in said
    assert list(contents(tmp_path).values()) == [b"mine"]


@pytest.mark.slow
def test_a_folder_of_another_program_in_the_workdir(names: Path, tmp_path: Path):
    for taken in ("run/data/tokens", "life/prepare/tokens"):
        (tmp_path / taken).mkdir(parents=True)
        (tmp_path / taken / "mine.txt").write_text("mine")
    command = [
        "run",
        NAMES,
        "--workdir",
        tmp_path / "run",
        f"--config.data.paths={names}",
    ]
    assert "data has tokens, and no config.json" in mistake(*command)
    life = ["run", "experiments/life.py:smoke", "--workdir", tmp_path / "life"]
    assert "prepare has tokens, and no config.json" in mistake(*life)
    for taken in ("run/data/tokens", "life/prepare/tokens"):
        assert (tmp_path / taken / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_folder_of_ones_own_among_the_checkpoints(copy: Path, names: Path):
    root = copy / "checkpoints"
    shutil.copytree(root / "2", root / "2.bak")
    settings = {"data.paths": names, "train.num_steps": 3}
    genlm("run", NAMES, "--workdir", copy, *overrides(settings))
    assert contents(root / "2.bak")


def test_life_of_other_settings(prepare_only: Path, names: Path, tmp_path: Path):
    life = tmp_path / "life.py"
    life.write_text(
        PREPARE_ONLY.replace("    return", "    stage =")
        + "    return ConfigDict({'stages': ('first',), 'first': stage.to_dict()})\n"
    )
    command = ["run", life, "--workdir", tmp_path / "run"]
    genlm(*command, f"--config.first.data.paths={names}")
    before = contents(tmp_path / "run")
    line = mistake(*command, f"--config.first.data.paths={life}")
    assert "first.data.paths" in line
    assert contents(tmp_path / "run") == before


@pytest.mark.slow
def test_a_part_of_a_life_leaves_the_rest_on_record(tmp_path: Path):
    life = ["run", "experiments/life.py:smoke", "--workdir", tmp_path / "life"]
    genlm(*life)
    before = (tmp_path / "life/config.json").read_bytes()
    genlm(*life, "--config.stages=prepare", "--config.evaluate.order=2")
    assert (tmp_path / "life/config.json").read_bytes() == before
    assert "finished" in genlm(*life).stdout


@pytest.mark.slow
def test_a_text_that_is_gone_after_it_was_prepared(names: Path, tmp_path: Path):
    text = shutil.copy(names, tmp_path / "text.txt")
    command = ["run", NAMES, "--workdir", tmp_path / "run"]
    genlm(*command, *overrides({"data.paths": text}))
    text.unlink()
    longer = overrides({"data.paths": text, "train.num_steps": 3})
    said = genlm(*command, *longer).stdout
    assert "going on with what was prepared" in said and "from step 2" in said
    other = overrides({"data.paths": tmp_path / "other.txt"})
    assert "other.txt" in mistake(*command, *other)


@pytest.mark.slow
def test_these_settings_may_change(copy: Path, names: Path):
    settings = {
        "data.paths": names,
        "train.num_steps": 3,
        "train.log_every": 2,
        "eval.eval_every": 1,
        "checkpoint.save_every": 5,
        "parallel.data": 1,
    }
    genlm("run", NAMES, "--workdir", copy, *overrides(settings))
    assert metrics.read(copy / "metrics.jsonl")[-1]["step"] == 3
    assert main(["verify", str(copy)]) == 0


def test_prepared_data_is_not_there(run: Path, tmp_path: Path, mistake_here):
    for path, hint in [
        (tmp_path / "nothing", "not a finished prepare run"),
        (tmp_path, "not a finished prepare run"),
        (run, f"did you mean {run / 'data'}?"),
    ]:
        prepared = f"--config.data.prepared={path}"
        said = mistake_here("run", NAMES, "--workdir", tmp_path / "run", prepared)
        assert hint in said and str(path) in said


@pytest.mark.parametrize(
    "name",
    ["index.json", "documents.npy", "pieces.npy", "rows.npy", "tokens-00000.bin"],
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_prepared_data_is_damaged(name, damage, copy, tmp_path, mistake_here):
    path = copy / "data/tokens/train" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20])
    prepared = f"--config.data.prepared={copy / 'data'}"
    said = mistake_here("run", NAMES, "--workdir", tmp_path / "run", prepared)
    assert "damaged" in said and "tokens/train" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["valid/tokens-00000.bin", "train/rows.npy"])
def test_prepared_data_has_a_bit_flipped(name, copy, tmp_path, mistake_here):
    path = copy / "data/tokens" / name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    prepared = f"--config.data.prepared={copy / 'data'}"
    said = mistake_here("run", NAMES, "--workdir", tmp_path / "run", prepared)
    assert f"{path}: changed since it was written; prepare it anew" in said


def test_workdir_that_another_process_works_in(copy: Path, names: Path, mistake_here):
    log = copy / "metrics.jsonl"
    before = log.read_bytes()
    command = ["run", NAMES, "--workdir", copy, f"--config.data.paths={names}"]
    holder = start(*command, "--config.train.num_steps=100000")
    while log.read_bytes() == before:  # until it trains
        time.sleep(0.05)
    said = mistake_here(*command)
    assert f"another process works in {copy}" in said
    holder.kill()
    holder.communicate()
    genlm(*command)


def test_workdir_that_another_process_holds_while_it_is_empty(tmp_path, mistake_here):
    with directory.held(tmp_path):
        said = mistake_here("run", NAMES, "--workdir", tmp_path)
        assert f"another process works in {tmp_path}" in said
        assert tmp_path.is_dir()
    with directory.held(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert tmp_path.is_dir() and not (tmp_path / "new").exists()


@pytest.mark.slow
def test_evaluate_with_the_tokens_of_another(
    run: Path, prepare_only: Path, names: Path, tmp_path: Path, mistake_here, capsys
):
    settings = {"data.paths": names, "data.document": "line", "tokenizer.kind": "bpe"}
    genlm("run", prepare_only, "--workdir", tmp_path / "data", *overrides(settings))
    recipe = tmp_path / "evaluate.py"
    recipe.write_text(EVALUATE_ONLY)
    command = ["run", recipe, "--workdir", tmp_path / "scores"]
    command += [f"--config.source={run}"]
    said = mistake_here(*command, f"--config.data.prepared={tmp_path / 'data'}")
    assert f"{run / 'tokenizer'} and {tmp_path / 'data/tokens/tokenizer'}" in said
    assert not (tmp_path / "scores").exists()
    assert main([str(a) for a in command + [f"--config.data.prepared={run}/data"]]) == 0
    assert "was trained on other data" not in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_on_data_that_the_model_was_not_trained_on(
    run: Path, prepare_only: Path, names: Path, tmp_path: Path
):
    settings = {
        "data.paths": names,
        "data.document": "line",
        "data.valid_fraction": 0.5,
    }
    genlm("run", prepare_only, "--workdir", tmp_path / "half", *overrides(settings))
    recipe = tmp_path / "evaluate.py"
    recipe.write_text(EVALUATE_ONLY)
    command = ["run", recipe, "--workdir", tmp_path / "scores"]
    own = {"source": run, "data.prepared": tmp_path / "half"}
    said = genlm(*command, *overrides(own)).stdout
    assert f"{run} was trained on other data than {tmp_path / 'half'}" in said


def test_a_model_larger_than_memory(names: Path, tmp_path: Path):
    settings = {"data.paths": names, "model.mlp_dim": 1 << 40}
    line = mistake("run", NAMES, "--workdir", tmp_path / "run", *overrides(settings))
    assert "need" in line and "are free; take a smaller model" in line


@pytest.mark.parametrize("zeros", [jnp.zeros, np.zeros])
def test_memory_that_runs_out(zeros, tmp_path: Path, monkeypatch, mistake_here):
    monkeypatch.setattr(stages, "run", lambda config, workdir: zeros(1 << 45))
    said = mistake_here("run", NAMES, "--workdir", tmp_path / "run")
    assert "allocat" in said and "a smaller batch" in said


def test_verify_what_is_no_run(tmp_path: Path, mistake_here):
    assert "no lineage.json" in mistake("verify", tmp_path)
    assert "no directory" in mistake("verify", tmp_path / "nothing")
    for text in ("{", "[]", '{"a": 1}'):
        (tmp_path / "lineage.json").write_text(text)
        assert "lineage.json" in mistake_here("verify", tmp_path)


def test_verify_names_what_changed(copy: Path, capsys):
    (copy / "model.json").write_text("{}")
    assert main(["verify", str(copy)]) == 1
    said = capsys.readouterr()
    assert said.err == f"{copy / 'model.json'}: changed since it was written\n"
    assert f"{copy}: damaged\n" in said.out


@pytest.mark.parametrize("name", ["", "nothing"])
def test_report_of_what_is_no_run(name: str, tmp_path: Path, mistake_here):
    assert str(tmp_path / name) in mistake_here("report", tmp_path / name)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("text", ['{"width": 8}', '{"num_layers": 0}'])
def test_report_of_a_damaged_description(text: str, copy: Path, mistake_here):
    path = copy / "model.json"
    path.write_text(text)
    assert f"{path} is damaged" in mistake_here("report", copy)
    assert f"{path} is damaged" in mistake_here("report", "--compare", copy, copy)
    (copy / "lineage.json").unlink()  # which would tell first
    assert f"{path} is damaged" in mistake_here("generate", "--from", copy)
