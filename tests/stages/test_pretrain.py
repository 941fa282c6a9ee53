"""The stage that trains: what is compiled, and how often."""

from pathlib import Path

import pytest

from genlm.cli.__main__ import main
from genlm.errors import UserError
from genlm.runs import checkpoint, lineage, metrics
from genlm.stages import pretrain
from tests.command import contents
from tests.data_files import write_names


@pytest.mark.slow
def test_the_train_step_is_compiled_once(tmp_path: Path, monkeypatch):
    """Fresh and resumed, with looks, validation, samples and saves between steps; once
    more for each size of a batch that grows."""
    made, make_parts = [], pretrain.make_parts

    def remembered(*arguments):
        made.append(make_parts(*arguments))
        return made[-1]

    monkeypatch.setattr(pretrain, "make_parts", remembered)
    names = write_names(tmp_path / "names.txt")
    settings = {
        "data.paths": names,
        "train.batch_size": 16,
        "train.ramp_from": 8,
        "train.ramp_steps": 3,
        "train.probe_every": 2,
        "eval.batch_size": 8,
        "eval.eval_every": 4,
        "checkpoint.save_every": 2,
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    command = ["run", "experiments/pretrain_names.py:smoke", *overrides]
    command += ["--workdir", str(tmp_path / "run")]
    for num_steps in (6, 10):
        assert main([*command, f"--config.train.num_steps={num_steps}"]) == 0
    assert checkpoint.newest(tmp_path / "run") == 10
    assert [parts.train_step._cache_size() for parts in made] == [2, 1]


def test_a_state_that_does_not_open_leaves_the_run_as_it_was(tmp_path, monkeypatch):
    """Such as that of another version of optax."""
    names = write_names(tmp_path / "names.txt")
    command = ["run", "experiments/pretrain_names.py:smoke", "--workdir"]
    command += [str(tmp_path / "run"), f"--config.data.paths={names}"]
    assert main(command) == 0
    before = lineage.read(tmp_path / "run"), contents(tmp_path / "run" / "checkpoints")

    def fails(*arguments):
        raise UserError("has another form")

    monkeypatch.setattr(checkpoint, "restore", fails)
    assert main([*command, "--config.train.num_steps=4"]) == 1
    after = lineage.read(tmp_path / "run"), contents(tmp_path / "run" / "checkpoints")
    assert before == after


@pytest.mark.slow
def test_validation_reads_as_many_rows_as_are_asked_for(tmp_path: Path):
    names = write_names(tmp_path / "names.txt")
    losses = {}
    for max_rows in (0, 1, 3, 10_000):
        run = tmp_path / str(max_rows)
        command = ["run", "experiments/pretrain_names.py:smoke", "--workdir", str(run)]
        command += [f"--config.data.paths={names}", "--config.eval.eval_every=2"]
        assert main([*command, f"--config.eval.max_rows={max_rows}"]) == 0
        losses[max_rows] = metrics.read(run / "metrics.jsonl")[-1]["valid_loss"]
    assert losses[0] == losses[10_000] and len(set(losses.values())) == 3
