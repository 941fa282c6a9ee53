"""The stage that trains: what is compiled, and how often."""

from pathlib import Path

from genlm.cli.__main__ import main
from genlm.runs import checkpoint
from genlm.stages import pretrain
from tests.data_files import write_names


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
