"""A disk that is full: one line, and once there is room the same command goes on."""

import json
from pathlib import Path

import pytest

from genlm.cli.__main__ import main
from genlm.runs import metrics
from tests.bad_input.recipes import NAMES, overrides
from tests.command import contents, genlm, mistake


@pytest.mark.parametrize("file_bytes", [0, 100, 3_000, 10_000])
def test_full_disk_while_preparing(
    file_bytes: int, prepare_only: Path, names: Path, tmp_path: Path
):
    workdir = tmp_path / "run"
    settings = {"data.paths": names, "data.document": "line"}
    command = ["run", prepare_only, "--workdir", workdir, *overrides(settings)]
    line = mistake(*command, file_bytes=file_bytes)
    assert "cannot write" in line and str(workdir) in line
    assert contents(workdir) == {}
    genlm(*command)
    assert main(["verify", str(workdir)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "file_bytes",
    [
        1_000,  # the settings
        30_000,  # the arrays: which file is the first depends on how they compress
        60_000,
    ],
)
def test_full_disk_while_training(file_bytes: int, run: Path, tmp_path: Path):
    workdir = tmp_path / "run"
    prepared = f"--config.data.prepared={run / 'data'}"
    command = ["run", NAMES, "--workdir", workdir, prepared]
    line = mistake(*command, file_bytes=file_bytes)
    assert "cannot write" in line and str(workdir) in line
    genlm(*command)
    assert [r["step"] for r in metrics.read(workdir / "metrics.jsonl")] == [1, 2, 2]
    assert main(["verify", str(workdir)]) == 0


@pytest.mark.slow
def test_full_disk_while_measuring(copy: Path, names: Path):
    path, limit = copy / "metrics.jsonl", 1 << 20
    first, *others = metrics.read(path)
    first["note"] = ""
    room = limit - 100 - sum(len(json.dumps(row)) + 1 for row in [first, *others])
    first["note"] = "x" * room
    path.write_text("".join(json.dumps(row) + "\n" for row in [first, *others]))
    settings = {"data.paths": names, "train.num_steps": 4, "checkpoint.save_every": 4}
    command = ["run", NAMES, "--workdir", copy, *overrides(settings)]
    line = mistake(*command, file_bytes=limit)
    assert f"cannot write {path}" in line
    assert path.stat().st_size == limit and len(metrics.read(path)) == 1 + len(others)
    genlm(*command)
    steps = [row["step"] for row in metrics.read(path) if "loss" in row]
    assert steps == [1, 2, 3, 4]
    assert main(["verify", str(copy)]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_full_disk_takes_no_output(prepare_only: Path, names: Path, tmp_path: Path):
    settings = overrides({"data.paths": names})
    command = ["run", prepare_only, "--workdir", tmp_path / "run", *settings]
    with open("/dev/full", "w") as full:
        assert "No space left on device" in mistake(*command, stdout=full)
    genlm(*command)


@pytest.mark.slow
def test_full_disk_under_compiled_programs(run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepared = f"--config.data.prepared={run / 'data'}"
    command = ["run", NAMES, "--workdir", tmp_path / "run", prepared]
    assert "cannot write" in mistake(*command, file_bytes=6_000)
    assert genlm(*command).stderr == ""
    sizes = [len(raw) for raw in contents(tmp_path / "cache").values()]
    assert sizes and min(sizes) > 6_000
