"""THE LONG RUN: rows of noise, batches of NaN, a reader that hangs and a disk that
fills for a while; the run ends trained, as good as a clean one, and says what it lived
through."""

import json
from pathlib import Path
import subprocess
import sys

import pytest

from genlm.cli.__main__ import main
from genlm.runs import metrics
from tests.command import ROOT, environment, genlm
from tests.data_files import write_names
from tests.laws.test_resume import NO_POISON

SETTINGS = {
    "train.num_steps": 900,
    "train.batch_size": 16,
    "train.log_every": 100,
    "eval.eval_every": 900,
    "eval.sample_every": 0,
    "checkpoint.save_every": 30,
    "optimizer.learning_rate": 3e-3,
    "guard.spike": 8.0,
    "guard.max_rewinds": 3,
    "guard.rewind_skips": 6,
    "guard.max_nonfinite": 3,
    "guard.stall_seconds": 5.0,
    "guard.disk_seconds": 120.0,
}


def _command(names: Path, workdir: Path, **changes: object) -> list[str]:
    settings = {"data.paths": names, **SETTINGS, **changes}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    recipe = "experiments/pretrain_names.py:smoke"
    return ["run", recipe, "--workdir", str(workdir), *overrides]


def _poisoned(command: list[str], **plan: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.laws.poisoned",
            json.dumps(NO_POISON | plan),
            *command,
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )


def _valid_loss(workdir: Path) -> float:
    return metrics.read(workdir / "metrics.jsonl")[-1]["valid_loss"]


def _events(workdir: Path) -> list[str]:
    return [row["event"] for row in metrics.read(workdir / "events.jsonl")]


@pytest.mark.slow
def test_a_poisoned_run_ends_as_good_as_a_clean_one(tmp_path: Path):
    names = write_names(tmp_path / "names.txt")
    genlm(*_command(names, tmp_path / "clean"))
    assert _events(tmp_path / "clean") == ["start"]
    ended = _poisoned(
        _command(names, tmp_path / "ill"),
        noise=(302, 305),
        nan=[420, 421],
        hang=500,
        full=640,
        seconds=60,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    events = _events(tmp_path / "ill")
    assert events.count("loss spike") == events.count("rewind") == 1
    assert events.count("update left out") == 2
    rows = metrics.read(tmp_path / "ill" / "events.jsonl")
    ((first, last),) = (row["left_out"] for row in rows if "left_out" in row)
    assert first <= 302 and 305 <= last <= first + SETTINGS["guard.rewind_skips"]
    assert {"stall", "save failed"} <= set(events)
    clean, ill = _valid_loss(tmp_path / "clean"), _valid_loss(tmp_path / "ill")
    assert ill == pytest.approx(clean, rel=0.01)
    steps = [r["step"] for r in metrics.read(tmp_path / "ill" / "metrics.jsonl")]
    assert steps[:-1] == list(range(100, 901, 100))
    assert main(["verify", str(tmp_path / "ill")]) == 0
    assert main(["report", str(tmp_path / "ill")]) == 0
    page = (tmp_path / "ill" / "report.html").read_text()
    for words in ("back to step 300", "no batch came", "save failed", "weight is nan"):
        assert words in page, words


@pytest.mark.slow
def test_without_leave_the_first_nan_stops_the_run(tmp_path: Path):
    """What the batch was to prove does not count; leave can be given afterwards."""
    names = write_names(tmp_path / "names.txt")
    few = {"train.num_steps": 8, "eval.eval_every": 0, "checkpoint.save_every": 2}
    command = _command(names, tmp_path / "run", **few, **{"guard.max_nonfinite": 0})
    ended = _poisoned(command, nan=[4])
    assert ended.returncode == 1
    assert "step 5: weight is nan; the run stopped" in ended.stderr
    command = _command(names, tmp_path / "run", **few, **{"guard.max_nonfinite": 3})
    assert _poisoned(command, nan=[4]).returncode == 0
    rows = metrics.read(tmp_path / "run" / "events.jsonl")
    assert [(row["event"], row["step"]) for row in rows] == [
        ("start", 0),
        ("start", 2),
        ("update left out", 5),
    ]


@pytest.mark.slow
def test_more_nan_than_is_allowed_stops_the_run(tmp_path: Path):
    names = write_names(tmp_path / "names.txt")
    few = {"train.num_steps": 12, "eval.eval_every": 0}
    command = _command(names, tmp_path / "run", **few, **{"guard.max_nonfinite": 2})
    ended = _poisoned(command, nan=[1, 2, 4, 5, 6])
    assert ended.returncode == 1
    assert "step 7: weight is nan; the run stopped" in ended.stderr
    assert _events(tmp_path / "run").count("update left out") == 4
