"""The command itself: help, doctor, and signals that ask a training to stop."""

import importlib.util
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from genlm.cli.__main__ import VERBS, main
from genlm.runs import lineage, metrics, packages, progress
from tests.command import ROOT, complaints, genlm, start
from tests.data_files import write_names


def test_help_names_every_verb_and_an_example():
    text = genlm("--help").stdout
    assert "example: genlm run experiments/" in text
    assert all(f"{verb} " in text and VERBS[verb] in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_an_example(verb: str):
    text = genlm(verb, "--help").stdout
    assert f"usage: genlm {verb}" in text and f"example: genlm {verb}" in text


@pytest.mark.parametrize("arguments", [["--help"]] + [[v, "--help"] for v in VERBS])
def test_help_loads_no_jax(arguments: list[str]):
    code = f"""
import sys
from genlm.cli.__main__ import main
try:
    main({arguments!r})
finally:
    print(sorted({{"jax", "numpy", "flax", "rich"}} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_doctor_says_what_is_here():
    text = genlm("doctor").stdout
    for word in (
        "genlm 0",
        "Python 3",
        "  jax ",
        "  etils ",
        "extra report",
        "1 cpu devices",
        "host:",
    ):
        assert word in text, text


def test_verify_shows_how_far_it_is(tmp_path: Path, capsys, monkeypatch):
    """In bytes, where there are many."""
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(1000))
    outputs = lineage.of_outputs(tmp_path, ["a", "b"])
    lineage.write(tmp_path, {}, outputs)
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    monkeypatch.setattr(lineage, "_SHOWN", 2000)
    assert main(["verify", str(tmp_path)]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("hash: 1,000 of 2,000, ")
    assert second.startswith("hash: 2,000 of 2,000, ")


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch):
    """As wandb/ is none, which Weights & Biases leaves where it ran."""
    (tmp_path / "seen_nowhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("seen_nowhere") is not None
    assert not packages.is_installed("seen_nowhere")
    assert not packages.is_installed("seen_nowhere_at_all")
    assert packages.is_installed("numpy")


def test_doctor_says_that_devices_are_missing(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    done = genlm("doctor", code=1)
    assert done.stderr.count("\n") == 1 and "no devices" in done.stderr
    assert "  jax " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_stops_a_training_and_the_same_command_goes_on(
    number: signal.Signals, tmp_path: Path
):
    names = write_names(tmp_path / "names.txt")
    workdir = tmp_path / "run"
    log = workdir / "metrics.jsonl"
    settings = {
        "data.paths": names,
        "train.num_steps": 400,
        "eval.eval_every": 0,
        "eval.sample_every": 0,
        "checkpoint.save_every": 400,
    }
    command = ["run", "experiments/pretrain_names.py:smoke", "--workdir", workdir]
    command += [f"--config.{key}={value}" for key, value in settings.items()]

    process = start(*command)
    while process.poll() is None and not metrics.read(log):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 128 + number, said
    steps = [row["step"] for row in metrics.read(log)]
    (line,) = complaints(said)
    assert line.startswith(f"genlm run: stopped by {number.name} at step {len(steps)};")
    assert 0 < len(steps) < 400

    assert f"from step {len(steps)}" in genlm(*command).stdout
    assert [row["step"] for row in metrics.read(log)] == list(range(1, 401))
    genlm("verify", workdir)
