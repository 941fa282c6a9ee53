"""Real processes that train one run together, over gloo on loopback: one curve, one
folder, one end, however many they are, and whatever happens to one of them."""

import contextlib
import json
from pathlib import Path
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from genlm.runs import checkpoint, metrics
from tests.command import complaints, genlm, mistake, start
from tests.data_files import write_names
from tests.laws.test_resume import NO_POISON, arrays

RECIPE = "experiments/pretrain_names.py:smoke"
DEVICES = 8
STEPS = 24
LEFT = "left_out"


def command(tmp_path: Path, name: str, num_steps: int = STEPS, **settings) -> list:
    """A training on eight devices, that saves and measures as it goes."""
    names = tmp_path / "names.txt"
    settings = {
        "data.paths": names if names.exists() else write_names(names),
        "train.num_steps": num_steps,
        "train.log_every": 1,
        "train.batch_size": 16,
        "train.num_microbatches": 2,
        "train.probe_every": 8,
        "eval.eval_every": 8,
        "eval.sample_every": 12,
        "checkpoint.save_every": 4,
        "parallel.data": 2,
        "parallel.fsdp": 4,
        **settings,
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["run", RECIPE, "--workdir", tmp_path / name, *overrides]


def devices(number: int) -> dict[str, str]:
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={number}"}


def begin(arguments: list, processes: int, **poison) -> list[subprocess.Popen]:
    """The same command in as many processes, which share the devices.

    Args:
      poison: what goes wrong, as tests.laws.poisoned reads it.
    """
    called = ("genlm.cli",)
    if poison:
        called = ("tests.laws.poisoned", json.dumps(NO_POISON | poison))
    if processes == 1:
        return [start(*arguments, env=devices(DEVICES), called=called)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--coordinator", where, "--processes", processes, "--process"]
    own = devices(DEVICES // processes)
    return [
        start(*arguments, *flags, i, env=own, called=called) for i in range(processes)
    ]


def end(started: list[subprocess.Popen], code: int = 0) -> list[str]:
    """What each said on stderr; every one must end with `code`."""
    said = [process.communicate(timeout=300)[1] for process in started]
    for process, err in zip(started, said):
        assert process.returncode == code, f"{process.returncode}\n{err[-3000:]}"
    return said


def curve(workdir: Path) -> list[float]:
    rows = metrics.read(workdir / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


def wait_for_step(workdir: Path, step: int) -> None:
    for _ in range(2400):
        if len(curve(workdir)) >= step:
            return
        time.sleep(0.1)
    raise AssertionError(f"no step {step} in four minutes")


@contextlib.contextmanager
def none_left(started: list[subprocess.Popen]):
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    """One curve, one folder; the second process keeps a journal of its own."""
    for name, processes in (("alone", 1), ("both", 2)):
        end(begin(command(tmp_path, name), processes))
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert len(curve(alone)) == STEPS
    np.testing.assert_allclose(curve(both), curve(alone), rtol=1e-5)
    notes = metrics.read(both / "hosts" / "1" / "events.jsonl")
    assert [row["event"] for row in notes] == ["start"]
    for a, b in zip(arrays(alone), arrays(both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert "as it was written" in genlm("verify", both).stdout
    assert checkpoint.manifest(both, STEPS)["content"]["processes"] == 2
    assert genlm("generate", "--from", both, "--prompt", "a").stdout
    again = begin(command(tmp_path, "both"), 2)
    assert "finished at step" in again[0].communicate(timeout=300)[0]
    end(again[1:])


@pytest.mark.slow
def test_one_is_killed_the_other_ends_and_both_go_on(tmp_path: Path):
    end(begin(command(tmp_path, "straight"), 2))
    started = begin(command(tmp_path, "killed"), 2)
    with none_left(started):
        wait_for_step(tmp_path / "killed", 10)
        started[1].send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        said = started[0].communicate(timeout=60)[1]
        assert time.monotonic() - killed_at < 60
        assert started[0].returncode != 0
        # by a message that does not come, or by JAX's heartbeat, whichever is first
        assert "another process is gone" in said or "tasks are unhealthy" in said
    end(begin(command(tmp_path, "killed"), 2))
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert curve(straight) == curve(killed)
    for a, b in zip(arrays(straight), arrays(killed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_first_is_killed_and_the_other_ends(tmp_path: Path):
    started = begin(command(tmp_path, "run", 400), 2)
    with none_left(started):
        wait_for_step(tmp_path / "run", 6)
        started[0].send_signal(signal.SIGKILL)
        started[1].communicate(timeout=60)
        assert started[1].returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_stops_all_at_one_step(told: int, tmp_path: Path):
    started = begin(command(tmp_path, "run", 400), 2)
    with none_left(started):
        wait_for_step(tmp_path / "run", 6)
        started[told].send_signal(signal.SIGTERM)
        said = end(started, 128 + signal.SIGTERM)
    assert all("goes on from there" in err for err in said)
    run = tmp_path / "run"
    step = checkpoint.newest(run)
    assert step is not None and 6 <= step < 400
    assert len(curve(run)) == step


@pytest.mark.slow
def test_a_loss_spike_takes_all_of_them_back(tmp_path: Path):
    """To one checkpoint, past the same batches, and a signal after it still stops all
    at one step."""
    settings = {
        "train.log_every": 10,
        "guard.spike": 4.0,
        "guard.max_rewinds": 2,
        "guard.rewind_skips": 6,
        "eval.eval_every": 0,
        "eval.sample_every": 0,
        "train.probe_every": 0,
        "optimizer.schedule": "constant",
        "optimizer.learning_rate": 3e-3,
    }
    noise = {"noise": (180, 182)}
    alone, both = tmp_path / "alone", tmp_path / "both"
    end(begin(command(tmp_path, "alone", 210, **settings), 1, **noise))
    started = begin(command(tmp_path, "both", 9000, **settings), 2, **noise)
    with none_left(started):
        wait_for_step(both, 21)  # rows of metrics, one every ten steps
        started[1].send_signal(signal.SIGTERM)
        end(started, 128 + signal.SIGTERM)
    np.testing.assert_allclose(curve(both)[:21], curve(alone), rtol=1e-4)
    left_out = [
        [row["left_out"] for row in metrics.read(notes / "events.jsonl") if LEFT in row]
        for notes in (alone, both, both / "hosts" / "1")
    ]
    assert len(left_out[0]) == 1 and left_out[0] == left_out[1] == left_out[2]


@pytest.mark.slow
def test_two_then_one_then_two_see_the_same_rows(tmp_path: Path):
    """A restart on fewer or more processes goes on with the same rows."""
    # neither of which knows the last step
    constant = {"optimizer.schedule": "constant", "optimizer.warmup_steps": 2}
    for steps, processes in ((8, 2), (16, 1), (24, 2)):
        end(begin(command(tmp_path, "changing", steps, **constant), processes))
    end(begin(command(tmp_path, "straight", **constant), 1))
    changing, straight = (curve(tmp_path / name) for name in ("changing", "straight"))
    assert len(changing) == STEPS
    np.testing.assert_allclose(changing, straight, rtol=1e-5)


@pytest.mark.slow
def test_one_that_cannot_begin_ends_the_other(tmp_path: Path):
    """The first one alone prepares, and finds what is wrong."""
    started = begin(command(tmp_path, "run", **{"data.paths": tmp_path / "none"}), 2)
    with none_left(started):
        said = [process.communicate(timeout=60)[1] for process in started]
        assert started[0].returncode == 1 and started[1].returncode != 0
    assert "none" in complaints(said[0])[-1]


@pytest.mark.slow
def test_a_cluster_says_who_is_there(tmp_path: Path):
    """With --coordinator auto, as Slurm tells it to each of its tasks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    told = {
        "SLURM_JOB_ID": str(number),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
    }
    arguments = [*command(tmp_path, "run", 4), "--coordinator", "auto"]
    started = [
        start(
            *arguments,
            env={**devices(4), **told, "SLURM_PROCID": i, "SLURM_LOCALID": i},
        )
        for i in ("0", "1")
    ]
    with none_left(started):
        end(started)
    assert checkpoint.manifest(tmp_path / "run", 4)["content"]["processes"] == 2


@pytest.mark.slow
def test_mistakes(tmp_path: Path):
    flags = ["--coordinator", "127.0.0.1:1", "--processes", 2]
    said = mistake(*command(tmp_path, "run"), *flags)
    assert "--process is missing" in said
    named = [*command(tmp_path, "run"), "--coordinator", "auto", "--process", 0]
    assert "--coordinator auto knows" in mistake(*named)
    life = ["run", "experiments/life.py:smoke", "--workdir", tmp_path / "life"]
    assert "one pretrain stage" in mistake(*life, *flags, "--process", 0)
    copying = command(tmp_path, "run", **{"checkpoint.copy_to": tmp_path / "copy"})
    for said in end(begin(copying, 2), 1):
        assert "checkpoint.copy_to is for one process" in complaints(said)[0]
