"""The watchdog: a step that hangs ends the process, for whoever starts it again; what
takes its time between steps does not."""

from pathlib import Path
import subprocess
import sys

import pytest

from genlm.runs import checkpoint, metrics
from tests.command import ROOT, environment

HANGS = """
import sys, threading, time
from pathlib import Path
from genlm.train.guard import GuardConfig
from genlm.train.loop import LoopConfig
from tests.train import test_loop

def step(state, batch, frozen):
    if int(state.step) == 6 and sys.argv[2] == "step":
        threading.Event().wait()
    return test_loop._step(state, batch, frozen)

def hook(params, step):
    if sys.argv[2] == "hook":
        time.sleep(7)
    return {}

config = LoopConfig(7, log_every=1, save_every=2, guard=GuardConfig(stall_seconds=0.6))
test_loop.train(Path(sys.argv[1]), config, hook, train_step=step, every=7)
"""


def _run(folder: Path, hangs: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", HANGS, folder, hangs],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_step_that_hangs_ends_the_process(tmp_path: Path):
    ended = _run(tmp_path, "step")
    assert ended.returncode == 75, ended.stderr
    assert "start it again, it goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "in step" in (tmp_path / "stacks.txt").read_text()  # where it hung
    event = metrics.read(tmp_path / "events.jsonl")[-1]
    assert (event["event"], event["step"]) == ("stall", 5)
    assert checkpoint.newest(tmp_path) == 4


@pytest.mark.slow
def test_a_hook_may_take_its_time(tmp_path: Path):
    ended = _run(tmp_path, "hook")  # longer than a step may
    assert ended.returncode == 0, ended.stderr
    assert checkpoint.newest(tmp_path) == 7
