"""A run opened as a model: which of its checkpoints."""

import jax
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop.run import is_choice, open_run
from genlm.runs import checkpoint
from tests.command import genlm
from tests.data_files import write_names


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    names = write_names(folder / "names.txt")
    recipe = "experiments/pretrain_names.py:smoke"
    settings = {"data.paths": names, "train.num_steps": 3, "checkpoint.keep_last": 3}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    genlm("run", recipe, "--workdir", folder / "run", *overrides)
    return folder / "run"


def test_the_mean_of_checkpoints(run):
    mean = open_run(run, "mean:2")
    assert mean.step == 3
    both = [open_run(run, step).params for step in ("2", "3")]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *both)
    jax.tree.map(np.testing.assert_array_equal, mean.params, expected)
    jax.tree.map(np.testing.assert_array_equal, open_run(run, "mean:1").params, both[1])


def test_a_mean_is_taken_with_two_models_in_memory(run, monkeypatch):
    """The sum so far and the next, however many there are."""
    restore, held = checkpoint.restore, []

    def watched(*arguments):
        held.append(sum(x.nbytes for x in jax.live_arrays()))
        return restore(*arguments)

    monkeypatch.setattr(checkpoint, "restore", watched)
    mean = open_run(run, "mean:3").params
    one = sum(x.nbytes for x in jax.tree.leaves(mean))
    assert len(held) == 3 and held[2] - held[0] < 1.5 * one


def test_more_than_there_are(run):
    with pytest.raises(UserError, match="has 3 whole checkpoints, not 4"):
        open_run(run, "mean:4")


@pytest.mark.parametrize("which", ["mean:0", "mean:x", "mean", "mean:-1"])
def test_no_such_choice(run, which: str):
    assert not is_choice(which)
    with pytest.raises(UserError, match="no checkpoint"):
        open_run(run, which)
