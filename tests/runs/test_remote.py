"""Copies of a run on another path: a folder, and an S3 server on loopback."""

import contextlib
import os
from pathlib import Path
import shutil
import time

import numpy as np
import pytest

from genlm.runs import checkpoint, metrics
from tests.command import contents, genlm, mistake, start
from tests.data_files import write_names
from tests.laws.test_resume import arrays

RECIPE = "experiments/pretrain_names.py:smoke"


def _command(names: Path, workdir: Path, to: str, num_steps: int = 4) -> list:
    settings = {
        "data.paths": names,
        "checkpoint.copy_to": to,
        "checkpoint.keep_last": 1,
        "checkpoint.keep_best": False,
        "train.num_steps": num_steps,
        "optimizer.schedule": "constant",  # the others depend on num_steps,
        "optimizer.warmup_steps": 0,  # as a warm-up does
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["run", RECIPE, "--workdir", workdir, *overrides]


def _goes_on_elsewhere(tmp_path: Path, to: str) -> None:
    """That a run begun here goes on, to the bit, where nothing of it is."""
    names = write_names(tmp_path / "names.txt")
    genlm(*_command(names, tmp_path / "straight", "", 8))
    genlm(*_command(names, tmp_path / "first", to))
    shutil.rmtree(tmp_path / "first")
    said = genlm(*_command(names, tmp_path / "second", to, 8)).stdout
    assert "from step 4" in said
    for a, b in zip(*(arrays(tmp_path / run) for run in ("straight", "second"))):
        np.testing.assert_array_equal(a, b)
    a, b = (
        [
            {k: v for k, v in row.items() if k not in metrics.TIMES}
            for row in metrics.read(tmp_path / run / "metrics.jsonl")
            if "loss" in row
        ]
        for run in ("straight", "second")
    )
    assert a == b and len(a) == 8
    assert "finished" in genlm(*_command(names, tmp_path / "third", to, 8)).stdout
    assert "as it was written" in genlm("verify", tmp_path / "third").stdout


@pytest.mark.slow
def test_a_folder(tmp_path: Path):
    _goes_on_elsewhere(tmp_path, str(tmp_path / "far" / "away"))
    copies = tmp_path / "far" / "away" / "checkpoints"
    assert sorted(p.name for p in copies.iterdir()) == ["8", "8.0.json"]


@pytest.mark.slow
def test_training_does_not_wait_for_its_copy(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    to.mkdir()
    os.mkfifo(
        to / "metrics.jsonl.partial"
    )  # writing to it hangs until somebody reads it
    command = _command(names, tmp_path / "run", str(to), 12)
    process = start(*command, "--config.checkpoint.save_every=2")
    while process.poll() is None and checkpoint.steps(tmp_path / "run")[-1:] != [12]:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1]
    assert not (to / "checkpoints").exists()
    reader = os.open(to / "metrics.jsonl.partial", os.O_RDONLY | os.O_NONBLOCK)
    while process.poll() is None:
        with contextlib.suppress(BlockingIOError):  # opened, and nothing written yet
            os.read(reader, 1 << 20)
        time.sleep(0.01)
    os.close(reader)
    assert process.returncode == 0, process.communicate()[1]
    assert (to / "checkpoints" / "12.0.json").exists()


@pytest.mark.slow
def test_a_damaged_copy_is_not_taken(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    genlm(*_command(names, tmp_path / "first", str(to)))
    shutil.copytree(to / "checkpoints" / "4", to / "checkpoints" / "9")
    shutil.copy(to / "checkpoints" / "4.0.json", to / "checkpoints" / "9.0.json")
    next(p for p in (to / "checkpoints" / "9").rglob("*") if p.is_file()).unlink()
    for _ in range(2):  # and again: nothing is in the way
        said = genlm(*_command(names, tmp_path / "second", str(to), 5)).stdout
    assert "finished at step 5" in said
    assert [p.name for p in (to / "checkpoints").glob("*.json")] == ["5.0.json"]


@pytest.mark.slow
def test_the_workdir_of_another_run_gets_no_copies(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    seed = "--config.seed=1"
    genlm(*_command(names, tmp_path / "mine", str(to)), seed)
    genlm(*_command(names, tmp_path / "other", "", 8))
    before = contents(tmp_path / "other")
    line = mistake(*_command(names, tmp_path / "other", str(to), 8), seed)
    assert "holds a run with seed=0, now 1" in line
    assert contents(tmp_path / "other") == before


@pytest.mark.slow
def test_a_manifest_that_was_cut_off_is_passed_over(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    genlm(*_command(names, tmp_path / "first", str(to)))
    manifest = to / "checkpoints" / "4.0.json"
    text = manifest.read_text()
    (to / "checkpoints" / "5.0.json").write_text(text[: len(text) // 2])
    outside = text.replace('"files": {', '"files": {"../../../escaped": "0", ')
    assert outside != text
    (to / "checkpoints" / "6.0.json").write_text(outside)
    said = genlm(*_command(names, tmp_path / "second", str(to), 5)).stdout
    assert "from step 4" in said
    line = mistake(*_command(names, to, str(to)))
    assert "copy_to is" in line and "itself" in line


@pytest.mark.slow
def test_a_run_that_goes_on_elsewhere_keeps_what_was_kept(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    kept = ["--config.checkpoint.save_every=2", "--config.checkpoint.keep_every=4"]
    genlm(*_command(names, tmp_path / "first", str(to), 6), *kept)
    genlm(*_command(names, tmp_path / "second", str(to), 10), *kept)
    for folder in (to, tmp_path / "second"):
        manifests = (folder / "checkpoints").glob("*.json")
        assert {p.name for p in manifests} == {f"{s}.0.json" for s in (4, 8, 10)}


@pytest.mark.slow
def test_what_is_kept_for_good_is_copied_in_the_end(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    command = _command(names, tmp_path / "run", str(to), 9)
    kept = ["--config.checkpoint.save_every=3", "--config.checkpoint.keep_every=3"]
    genlm(*command, *kept)
    shutil.rmtree(to / "checkpoints")
    genlm(*command, *kept)  # finished, and its copy is made whole
    assert {p.name for p in (to / "checkpoints").glob("*.json")} == {
        f"{step}.0.json" for step in (3, 6, 9)
    }


@pytest.mark.slow
def test_the_copy_of_another_run_is_left_alone(tmp_path: Path):
    names, to = write_names(tmp_path / "names.txt"), tmp_path / "copy"
    genlm(*_command(names, tmp_path / "first", str(to), 6))
    before = contents(to)
    other = [*_command(names, tmp_path / "other", str(to)), "--config.seed=1"]
    assert "holds a run with seed=0, now 1" in mistake(*other)
    genlm(*_command(names, tmp_path / "behind", "", 3))
    line = mistake(*_command(names, tmp_path / "behind", str(to), 6))
    assert "holds step 6 and" in line
    assert contents(to) == before


def test_a_place_that_takes_no_copy_is_said_before_any_work(tmp_path: Path):
    names = write_names(tmp_path / "names.txt")
    line = mistake(*_command(names, tmp_path / "run", "nowhere://bucket/run"))
    assert "copy_to=nowhere://bucket/run" in line


@pytest.mark.slow
def test_s3(tmp_path: Path, monkeypatch):
    moto_server = pytest.importorskip(
        "moto.server", reason="pip install 'moto[server]'"
    )
    boto3 = pytest.importorskip("boto3")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "some",
            "AWS_SECRET_ACCESS_KEY": "thing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="runs")
        _goes_on_elsewhere(tmp_path, "s3://runs/names")
    finally:
        server.stop()
