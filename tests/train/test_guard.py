"""The watchdog: a step that hangs ends the process, for whoever starts it again; what
takes its time between steps does not."""

from pathlib import Path
import subprocess
import sys
import time

from genlm.runs import checkpoint, metrics
from genlm.train.guard import GuardConfig
from genlm.train.loop import LoopConfig
from tests.command import ROOT, environment
from tests.train import test_loop

HANGS = """
import sys, threading
from pathlib import Path
from genlm.train.guard import GuardConfig
from genlm.train.loop import LoopConfig
from tests.train import test_loop

def step(state, batch, frozen):
    if int(state.step) == 6:
        threading.Event().wait()
    return test_loop._step(state, batch, frozen)

config = LoopConfig(9, log_every=1, save_every=2, guard=GuardConfig(stall_seconds=0.3))
test_loop.train(Path(sys.argv[1]), config, lambda params: {}, train_step=step)
"""


def test_a_step_that_hangs_ends_the_process(tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, tmp_path],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 75, ended.stderr
    assert "start it again, it goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "in step" in (tmp_path / "stacks.txt").read_text()  # where it hung
    events = metrics.read(tmp_path / "events.jsonl")
    assert [(row["event"], row["step"]) for row in events] == [("stall", 5)]
    assert checkpoint.newest(tmp_path) == 4


def test_a_hook_may_take_its_time(tmp_path: Path):
    guard = GuardConfig(stall_seconds=0.05)
    config = LoopConfig(6, log_every=1, save_every=6, guard=guard)
    test_loop.train(tmp_path, config, lambda params: time.sleep(1) or {})
    assert checkpoint.newest(tmp_path) == 6
