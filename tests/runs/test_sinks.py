"""Whoever watches sees what metrics.jsonl and samples.jsonl hold, row by row, also
after a kill and a resume."""

import importlib.util
import json
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.errors import UserError
from genlm.runs import checkpoint, directory, metrics, sinks
from genlm.runs.metrics import Log
from tests.command import ROOT, environment, genlm, mistake, start
from tests.data_files import write_names
from tests.runs import event_files

RECIPE = "experiments/pretrain_names.py:smoke"
ATTACK = "```\n<script>alert(1)</script>\r\n# no title\x00"


def _write(workdir: Path, names: tuple[str, ...], start_step: int, last: int) -> None:
    """What a run does from `start_step` to `last`."""
    with sinks.opened(names, workdir, start_step) as watching:
        log = Log(workdir / "metrics.jsonl", start_step, sinks=watching)
        samples = Log(workdir / "samples.jsonl", start_step, sinks=watching)
        for step in range(start_step + 1, last + 1):
            log.write({"step": step, "loss": 1 / step + last, "seconds": 0.5 * last})
            if step % 3 == 0:
                log.write({"step": step, "valid_loss": 2 / step})
                sample = {"prompt": "A", "text": f"{ATTACK} {step} {last}"}
                samples.write({"step": step, "samples": [sample]})
        log.close()
        samples.close()


def _new(workdir: Path) -> Path:
    workdir.mkdir()
    directory.write_json(workdir / "config.json", {"seed": 0})
    return workdir


def test_what_a_watcher_is_told_of_a_row():
    row = {"step": 3, "loss": 2.5, "gradient_norm": 0.5, "tokens": 96, "seconds": 1.5}
    assert sinks.scalars(row | {"valid_loss": 2.0, "memory_mb": 9}) == {
        "train/loss": 2.5,
        "train/gradient_norm": 0.5,
        "train/tokens": 96,
        "valid/loss": 2.0,
        "speed/seconds": 1.5,
        "speed/memory_mb": 9,
    }
    inside = {"step": 3, "gradient/embedding": 1.5, "dead": [0.0, 0.25]}
    assert sinks.scalars(inside) == {
        "gradient/embedding": 1.5,
        "dead/0": 0.0,
        "dead/1": 0.25,
    }
    written = {"step": 3, "samples": [{"prompt": "A", "text": "nn", "stop_reason": ""}]}
    assert sinks.scalars(written) == {}
    assert sinks.texts(written) == {"samples/1": '"A"\nnn'}


def test_tensorboard_forgets_what_the_log_forgets(tmp_path):
    run = _new(tmp_path / "run")
    for start_step, last in ((0, 4), (0, 8), (5, 9), (9, 9), (6, 12)):
        _write(run, ("tensorboard",), start_step, last)
        event_files.check_tensorboard(run)
    assert len(event_files.expected(run)) == 12 * 2 + 4 * 2


def test_a_row_cut_in_the_middle_hides_no_other(tmp_path):
    run = _new(tmp_path / "run")
    _write(run, ("tensorboard",), 0, 7)
    (events,) = (run / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-5])
    _write(run, ("tensorboard",), 5, 9)
    event_files.check_tensorboard(run)


def test_a_disk_that_is_full_for_a_moment_tears_no_row(tmp_path):
    code = """
import sys
from pathlib import Path
from genlm.runs import sinks
from tests.laws.poisoned import fill_disk

with sinks.opened(("tensorboard",), Path(sys.argv[1]), 0, patience=30) as (sink,):
    for step in range(1, 9):
        if step == 5:
            fill_disk(2.0, size=(Path(sys.argv[1]) / sys.argv[2]).stat().st_size + 10)
        sink.write({"step": step, "loss": 1.0 / step})
"""
    run = _new(tmp_path / "run")
    events = f"tensorboard/events.out.tfevents.{0:010d}"
    command = [sys.executable, "-c", code, str(run), events]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    points = event_files.tensorboard(run)
    assert points == {(s, "train/loss"): np.float32(1 / s) for s in range(1, 9)}


def test_a_watcher_asked_for_later_gets_the_rows_before(tmp_path):
    run = _new(tmp_path / "run")
    _write(run, (), 0, 7)
    _write(run, ("tensorboard",), 5, 9)
    event_files.check_tensorboard(run)


def test_numbers_that_are_not_finite_pass(tmp_path):
    run = _new(tmp_path / "run")
    with sinks.opened(("tensorboard",), run, 0) as watching:
        Log(run / "metrics.jsonl", 0, sinks=watching).write(
            {"step": 1, "loss": float("nan")}
        )
    event_files.check_tensorboard(run)


def _command(tmp_path: Path, *more: str) -> list[str]:
    settings = {
        "data.paths": write_names(tmp_path / "names.txt"),
        "train.num_steps": 40,
        "train.log_every": 3,
        "eval.eval_every": 10,
        "eval.sample_every": 0,
        "checkpoint.save_every": 5,
    }
    overrides = [f"--config.{k}={v}" for k, v in settings.items()]
    return ["run", RECIPE, "--workdir", str(tmp_path / "run"), *overrides, *more]


@pytest.mark.slow
def test_a_killed_run_is_watched_to_its_end(tmp_path):
    run, watched = tmp_path / "run", "--config.train.watch=tensorboard"
    process = start(*_command(tmp_path, watched))
    while process.poll() is None and checkpoint.steps(run)[-1:] < [15]:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    genlm(*_command(tmp_path, watched, "--config.train.num_steps=43"))
    event_files.check_tensorboard(run)
    rows = metrics.read(run / "metrics.jsonl")
    assert [r["step"] for r in rows if "loss" in r] == [*range(3, 43, 3), 43]
    _check_tokens(run, rows)
    assert main(["verify", str(run)]) == 0


def _check_tokens(run: Path, rows: list[dict]) -> None:
    """That `tokens` counts what the batches hold, from step 0 on."""
    from genlm.data import batches, plan
    from genlm.stages.prepare import Prepared

    prepared = Prepared(run / "data")
    pad = prepared.tokenizer.special.pad
    train = batches.TrainBatches(
        *prepared.split("train"), plan.Plan(8), seed=0, pad=pad
    )
    total, counted = 0, {0: 0}
    for step in range(43):
        total += int(train[step]["weights"].sum())
        counted[step + 1] = total
    trained = [row for row in rows if "loss" in row]
    assert [r["tokens"] for r in trained] == [counted[r["step"]] for r in trained]
    for step in checkpoint.steps(run):
        assert checkpoint.tokens(run, step) == counted[step]


def test_wandb_keeps_the_rows_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs pip install 'genlm[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = _new(tmp_path / "run")
    _write(run, ("wandb",), 0, 7)
    identity = (run / "wandb.json").read_text()
    _write(run, ("wandb",), 7, 9)
    assert (run / "wandb.json").read_text() == identity
    found, wanted = event_files.wandb(run), event_files.expected(run)
    found = {key: json.loads(value) for key, value in found.items()}
    event_files.assert_same(found, wanted)


def test_unknown_watcher_is_one_line(tmp_path):
    said = mistake(*_command(tmp_path, "--config.train.watch=tensorbord"))
    assert "'tensorbord'; it takes tensorboard, wandb" in said
    assert not (tmp_path / "run").exists()


def test_missing_extra_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'genlm\[wandb\]'"):
        sinks.require(("wandb",))
