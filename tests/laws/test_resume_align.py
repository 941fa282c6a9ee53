"""THE RESUME LAW where a policy learns from its own answers: a kill before, in and
after a rollout, and in a save, ends in the same bits."""

from pathlib import Path
import random

import numpy as np
import pytest

from tests.command import genlm
from tests.laws.test_resume import _kill_once, _timeless, arrays
from tests.stages import made

ROUNDS = 40
KINDS = {
    "": {"policy.kl": "loss", "policy.beta": 0.05, "lora.rank": 2},
    ":ppo": {
        "policy.kl": "reward",
        "policy.estimator": "k1",
        "policy.beta": 0.05,
        "policy.target": 0.1,
        "rollout.epochs": 2,
        "rollout.minibatches": 2,
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A model that knows the tokens of a chat."""
    folder = tmp_path_factory.mktemp("base")
    data = made.questions(folder / "questions.jsonl")
    recipe = "experiments/instruct.py"
    settings = {
        "source": made.pretrained(folder),
        "data.paths": data,
        "data.row_length": made.ROW,
        "data.template": "chatml",
        "train.num_steps": 2,
        "eval.max_tokens": 4,
    }
    genlm("run", recipe, "--workdir", folder / "chat", *_overrides(settings))
    return folder


def _overrides(settings: dict) -> list[str]:
    return [f"--config.{key}={value}" for key, value in settings.items()]


def _command(base: Path, kind: str, workdir: Path) -> list[str]:
    settings = {
        "source": base / "chat",
        "rollout.slots": 64,
        "rollout.max_tokens": 8,
        "rollout.answers": 4,
        "reward.graders": "length:1",
        "model.dtype": "float32",
        "train.num_steps": ROUNDS,
        "train.batch_size": 8,
        "train.log_every": 1,
        "eval.eval_every": 10,
        "eval.max_rows": 8,
        "eval.batch_size": 8,
        "eval.sample_every": 20,
        "checkpoint.save_every": 5,
        **KINDS[kind],
    }
    recipe = f"experiments/align_sums.py{kind}"
    return ["run", recipe, "--workdir", str(workdir), *_overrides(settings)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_policy_ends_as_one_that_never_was(base: Path, kind: str):
    name = kind.strip(":") or "grpo"
    straight, killed = base / f"{name}_straight", base / f"{name}_killed"
    genlm(*_command(base, kind, straight))
    rng, where = random.Random(0), []
    # 'step' is anywhere past a round's row: before, in or after the next rollout
    moments = ((0, "start"), (3, "step"), (5, "save"), (12, "step"), (20, "step"))
    for after, moment in (*moments, (25, "save")):
        again = _command(base, kind, killed)
        where.append(_kill_once(again, killed, after, moment, rng, None))
    assert "end" not in where
    genlm(*_command(base, kind, killed))
    for a, b in zip(arrays(straight), arrays(killed), strict=True):
        np.testing.assert_array_equal(a, b)
    for file in ("metrics.jsonl", "samples.jsonl"):
        assert _timeless(straight / file) == _timeless(killed / file)
