"""THE RESUME LAW: SIGKILL anywhere, also inside a save; a fresh process ends with the
same arrays, to the bit, and the same metrics, times aside, as a run never interrupted.
"""

import json
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from genlm.runs import checkpoint, metrics
from tests.command import ROOT, environment, genlm
from tests.data_files import write_names
from tests.runs import event_files

NO_POISON = {"noise": (10**9, 10**9), "nan": [], "hang": 10**9, "full": 10**9}
RECIPE = "experiments/pretrain_names.py:smoke"


def _command(names: Path, workdir: Path, num_steps: int) -> list[str]:
    """A training that saves every 5 steps and validates every 10."""
    settings = {
        "data.paths": names,
        "train.num_steps": num_steps,
        "train.log_every": 1,
        "eval.eval_every": 10,
        "eval.sample_every": 25,
        "checkpoint.save_every": 5,
        "model.dropout": 0.1,
        "train.num_microbatches": 2,
        "train.ema_decay": 0.9,
        "train.ramp_from": 4,
        "train.ramp_steps": 30,
        "train.probe_every": 20,
        "optimizer.name": "muon",
        "guard.max_rewinds": 2,
        "guard.rewind_skips": 6,
        "guard.max_nonfinite": 2,
        "guard.stall_seconds": 2.0,
        "guard.disk_seconds": 60.0,
        "train.watch": "tensorboard",
        "checkpoint.copy_to": f"{workdir}-copy",
        "checkpoint.export_every": 100,
    }
    overrides = [f"--config.{k}={v}" for k, v in settings.items()]
    return ["run", RECIPE, "--workdir", str(workdir), *overrides]


def _start(command: list[str], poison: dict | None = None) -> subprocess.Popen:
    """The command; batches that `poison` names go wrong: see tests.laws.poisoned."""
    module = ["genlm.cli"]
    if poison is not None:
        module = ["tests.laws.poisoned", json.dumps(NO_POISON | poison)]
    return subprocess.Popen(
        [sys.executable, "-m", *module, *command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _last_step(workdir: Path) -> int:
    rows = metrics.read(workdir / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def _is_saving(workdir: Path) -> bool:
    """Whether a folder of a checkpoint stands there without its manifest."""
    root = checkpoint.root(workdir)
    done = {str(s) for s in checkpoint.steps(workdir)}
    return any(p.is_dir() and p.name not in done for p in root.glob("*"))


def _finish(command: list[str], poison: dict | None) -> None:
    process = _start(command, poison)
    said = process.communicate()[1]
    assert process.returncode == 0, said


def _kill_once(
    command: list[str],
    workdir: Path,
    after: int,
    moment: str,
    rng: random.Random,
    poison: dict | None,
) -> str:
    """Start the run; kill it at a random `moment`: while it starts, or past step
    `after` in a save or anywhere. Says where it was: 'start', 'save', 'step', 'end'."""
    after = max(after, _last_step(workdir))  # a restart goes back to its checkpoint
    process = _start(command, poison)
    if moment == "start":
        time.sleep(rng.uniform(0, 2.5))
        where = "start"
    else:
        while process.poll() is None and _last_step(workdir) <= after:
            time.sleep(0.002)
        while moment == "save" and process.poll() is None and not _is_saving(workdir):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01 if moment == "save" else 0.1))
        where = "save" if _is_saving(workdir) else "step"
    if process.poll() is not None:
        where = "end"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return where


def _timeless(path: Path) -> list[dict]:
    rows = metrics.read(path)
    return [{k: v for k, v in r.items() if k not in metrics.TIMES} for r in rows]


def arrays(workdir: Path) -> list[np.ndarray]:
    """Parameters, optimizer state, key and step of the last checkpoint."""
    step = checkpoint.newest(workdir)
    path = (checkpoint.root(workdir) / str(step)).resolve()
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # wherever it was saved

    def stored(name: str):
        tree = ocp.StandardCheckpointHandler().metadata(path / name).tree
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree
        )

    items = {
        name: ocp.args.StandardRestore(stored(name)) for name in ("params", "state")
    }
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(path, args=ocp.args.Composite(**items))
    return [np.asarray(x) for n in items for x in jax.tree.leaves(restored[n])]


def _check_kills(
    tmp_path: Path,
    *,
    saves: int,
    starts: int,
    anywhere: int,
    num_steps: int,
    poison: dict | None = None,
) -> Path:
    """That a run killed so often ends as one that never was. A kill meant for a save
    that came too late counts as one anywhere, and another is tried."""
    names = write_names(tmp_path / "names.txt")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    _finish(_command(names, straight, num_steps), poison)
    rng = random.Random(0)
    plan = ["save"] * saves + ["start"] * starts + ["step"] * anywhere
    rng.shuffle(plan)
    command = _command(names, killed, num_steps)
    where = []
    for number, moment in enumerate(plan):
        after = number * num_steps // (2 * len(plan))
        where.append(_kill_once(command, killed, after, moment, rng, poison))
        while moment == "save" and where[-1] == "step":
            where.append(_kill_once(command, killed, after, moment, rng, poison))
    assert "end" not in where, f"the run ended before it was killed: {where}"
    assert where.count("save") >= saves, f"too few kills in a save: {where}"
    _finish(command, poison)
    assert "as it was written" in genlm("verify", killed).stdout

    for a, b in zip(arrays(straight), arrays(killed), strict=True):
        np.testing.assert_array_equal(a, b)
    for file in ("metrics.jsonl", "samples.jsonl", "health.jsonl"):
        assert _timeless(straight / file) == _timeless(killed / file)
    happened = metrics.read(killed / "events.jsonl")
    left_out = {r["step"] for r in happened if r["event"] == "update left out"}
    logged = [r["step"] for r in metrics.read(killed / "metrics.jsonl") if "loss" in r]
    assert logged == [s for s in range(1, num_steps + 1) if s not in left_out]
    for a, b in zip(arrays(killed), arrays(Path(f"{killed}-copy")), strict=True):
        np.testing.assert_array_equal(a, b)
    whole, again = (_files(run / "exports") for run in (straight, killed))
    assert len(whole) >= 5 * num_steps // 100 and whole == again
    event_files.check_tensorboard(killed)
    return killed


def _files(folder: Path) -> dict[str, bytes]:
    """What every file in a folder holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_run_killed_in_a_save_ends_as_an_uninterrupted_one(tmp_path):
    _check_kills(tmp_path, saves=1, starts=0, anywhere=0, num_steps=40)


@pytest.mark.slow
def test_forty_kills(tmp_path):
    poison = {"noise": (302, 305), "nan": [500, 501, 700]}
    poison |= {"hang": 420, "full": 600, "seconds": 2}
    killed = _check_kills(
        tmp_path, saves=10, starts=5, anywhere=25, num_steps=900, poison=poison
    )
    events = [row["event"] for row in metrics.read(killed / "events.jsonl")]
    assert events.count("rewind") >= 1 and events.count("update left out") >= 3
    assert {"stall", "save failed"} <= set(events)


@pytest.mark.slow
def test_seeds_together_killed(tmp_path):
    settings = {
        "data.paths": write_names(tmp_path / "names.txt"),
        "train.num_steps": 400,
        "train.log_every": 1,
        "eval.eval_every": 50,
        "eval.sample_every": 0,
        "checkpoint.save_every": 5,
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    seeds = ["--seeds", "0,1", "--together", *overrides, "--workdir"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    genlm("sweep", RECIPE, *seeds, straight)
    rng = random.Random(0)
    for after in (40, 140, 240):
        process = _start(["sweep", RECIPE, *seeds, str(killed)])
        while (
            process.poll() is None and _last_step(killed / "as_given,seed=1") <= after
        ):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.wait()
    said = genlm("sweep", RECIPE, *seeds, killed).stdout
    assert re.search(r"^2 seeds together, from step [23]\d\d$", said, re.MULTILINE)
    for run in ("as_given,seed=0", "as_given,seed=1"):
        for a, b in zip(arrays(straight / run), arrays(killed / run), strict=True):
            np.testing.assert_array_equal(a, b)
        a, b = (
            _timeless(folder / run / "metrics.jsonl") for folder in (straight, killed)
        )
        assert a == b
        assert "as it was written" in genlm("verify", killed / run).stdout


@pytest.mark.slow
def test_a_life_killed_in_each_of_its_stages(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    steps = ["--config.pretrain.train.num_steps=30"]
    steps += ["--config.pretrain.checkpoint.save_every=5"]
    steps += ["--config.sft.train.num_steps=30"]
    steps += ["--config.sft.checkpoint.save_every=5"]
    recipe = ["run", "experiments/life.py:smoke", *steps, "--workdir"]
    genlm(*recipe, straight)
    for begun in (
        "prepare/.tokens.genlm-partial",
        "pretrain/checkpoints/10",
        "evaluate",
        "sft/data/.tokens.genlm-partial",
        "sft/checkpoints/10",
        "exam",
    ):
        process = _start([*recipe, str(killed)])
        while process.poll() is None and not (killed / begun).exists():
            time.sleep(0.002)
        assert process.poll() is None, f"it ended before {begun} was there"
        process.kill()
        process.wait()
        assert not (killed / begun / "results.json").exists()
    genlm(*recipe, killed)
    assert "as it was written" in genlm("verify", killed).stdout
    for stage in ("pretrain", "sft"):
        for a, b in zip(arrays(straight / stage), arrays(killed / stage)):
            np.testing.assert_array_equal(a, b)
    written = [
        (run / "evaluate/results.json").read_text() for run in (straight, killed)
    ]
    assert written[0] == written[1]
    rows = [(run / "exam/rows.jsonl").read_text() for run in (straight, killed)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_killed_prepare_leaves_nothing_that_counts(tmp_path):
    names = write_names(tmp_path / "names.txt")
    workdir = tmp_path / "run"
    partial = workdir / "data" / ".tokens.genlm-partial"
    process = _start(_command(names, workdir, 2))
    while process.poll() is None and not partial.exists():
        time.sleep(0.0005)
    process.kill()
    process.wait()
    assert not (workdir / "data" / "lineage.json").exists()
    genlm(*_command(names, workdir, 2))
    assert not partial.exists()
    assert json.loads((workdir / "data" / "lineage.json").read_text())["outputs"]
