"""The command, end to end, in processes of its own."""

import json
import shutil

import pytest

from tests.command import genlm


def test_life_smoke_runs_goes_on_and_generates(tmp_path):
    life = tmp_path / "life"
    genlm("run", "experiments/life.py:smoke", "--workdir", life)
    again = genlm("run", "experiments/life.py:smoke", "--workdir", life)
    assert "finished at step 2" in again.stdout
    out = genlm("generate", "--from", life, "--prompt", "The", "--max-tokens", "4")
    assert out.stdout.startswith("The")
    assert "as it was written" in genlm("verify", life).stdout


@pytest.mark.slow
def test_a_life_ends_with_an_aligned_model(tmp_path):
    life = tmp_path / "life"
    genlm("run", "experiments/life.py:smoke-aligned", "--workdir", life)
    for exam in ("exam", "final"):
        tasks = json.loads((life / exam / "results.json").read_text())["tasks"]
        assert {"refused_where_due", "over_refused"} <= set(tasks["safety"]["metrics"])
    out = genlm("generate", "--from", life / "grpo", "--prompt", "1", "--max-tokens", 4)
    assert out.stdout.startswith("1")
    assert "as it was written" in genlm("verify", life).stdout


@pytest.mark.slow
def test_a_life_trained_for_longer_is_evaluated_again(tmp_path):
    """And what was fine-tuned from the shorter training is not taken for its own."""
    life = tmp_path / "life"
    command = ["run", "experiments/life.py:smoke", "--workdir", life]
    genlm(*command)
    longer = "--config.pretrain.train.num_steps=4"
    refused = genlm(*command, longer, code=1)
    assert "this model, step 4" in refused.stdout
    assert f"{life}/sft was made from another" in refused.stderr
    shutil.rmtree(life / "sft")
    genlm(*command, longer)
    assert "as it was written" in genlm("verify", life).stdout
