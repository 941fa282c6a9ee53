"""A training that goes on from another run's weights, with its tokenizer."""

from pathlib import Path

import jax
import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.interop.run import open_run
from genlm.runs import lineage, metrics
from tests.command import mistake
from tests.data_files import write_names


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A run on names, whose tokenizer is learnt; the names are beside it."""
    folder = tmp_path_factory.mktemp("first")
    names = write_names(folder / "names.txt")
    learnt = ["--config.tokenizer.kind=bpe", "--config.tokenizer.vocab_size=300"]
    assert main(_train(folder / "run", names, *learnt)) == 0
    return folder


def _train(workdir: Path, names: Path, *overrides: str) -> list[str]:
    return [
        "run",
        "experiments/pretrain_names.py:smoke",
        f"--workdir={workdir}",
        f"--config.data.paths={names}",
        "--config.eval.eval_every=2",
        *overrides,
    ]


def _going_on(folder: Path, workdir: Path, *overrides: str) -> list[str]:
    source = folder / "run"
    return _train(
        workdir,
        folder / "names.txt",
        f"--config.source={source}",
        "--config.tokenizer.kind=run",
        f"--config.tokenizer.source={source}",
        *overrides,
    )


def test_it_begins_where_the_other_ended(first: Path, tmp_path: Path):
    frozen = "--config.optimizer.rules='* optimizer=frozen'".replace("'", "")
    assert main(_going_on(first, tmp_path / "still", frozen)) == 0
    for a, b in zip(
        *(
            jax.tree.leaves(open_run(p).params)
            for p in (first / "run", tmp_path / "still")
        )
    ):
        np.testing.assert_array_equal(a, b)
    losses = [
        metrics.read(run / "metrics.jsonl")[-1]["valid_loss"]
        for run in (first / "run", tmp_path / "still")
    ]
    assert losses[0] == losses[1]
    assert str(first / "run") in lineage.read(tmp_path / "still")["inputs"]


@pytest.mark.slow
def test_it_learns_on_and_its_re_run_is_finished(first: Path, tmp_path: Path, capsys):
    command = _going_on(first, tmp_path / "on", "--config.model.num_layers=7")
    assert main(command) == 0  # the shape is the source's
    before, after = open_run(first / "run"), open_run(tmp_path / "on")
    assert after.config.num_layers == before.config.num_layers
    moved = jax.tree.map(
        lambda a, b: float(abs(a - b).max()), *(r.params for r in (before, after))
    )
    assert all(x > 0 for x in jax.tree.leaves(moved))
    capsys.readouterr()
    assert main(command) == 0
    assert "finished at step 2" in capsys.readouterr().out
    assert main([*command, "--config.train.num_steps=4"]) == 0


@pytest.mark.parametrize(
    "override, line",
    [
        ("--config.tokenizer.kind=byte", "tokenizer.source is a run's folder with"),
        ("--config.tokenizer.source=", "tokenizer.source is a run's folder with"),
        ("--config.data.row_length=64", "take shorter rows"),
        ("--config.source=nowhere", "no directory nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(first, tmp_path, override, line):
    command = _going_on(first, tmp_path / "run", override)
    assert line in mistake(*command)


def test_a_model_of_other_tokens_is_refused(first: Path, tmp_path: Path):
    command = _train(
        tmp_path / "run", first / "names.txt", f"--config.source={first / 'run'}"
    )
    assert "reads other tokens" in mistake(*command)
