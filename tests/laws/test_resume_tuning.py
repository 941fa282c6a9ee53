"""THE RESUME LAW where a run is fine-tuned: new tokens, and beside a frozen base."""

from pathlib import Path
import random

import numpy as np
import pytest

from tests.command import genlm
from tests.laws.test_resume import _kill_once, _timeless, arrays
from tests.stages import made

TUNINGS = {
    "whole": {"train.ema_decay": 0.9, "model.dropout": 0.1},
    "change": {
        "lora.rank": 2,
        "lora.dropout": 0.1,
        "lora.dora": True,
        "lora.bits": 4,
        "model.embedding_noise": 5.0,
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A model that knows the tokens of a chat."""
    folder = tmp_path_factory.mktemp("base")
    source = made.pretrained(folder)
    data = made.questions(folder / "questions.jsonl")
    genlm(*command(source, data, folder / "chat", 2, {"data.template": "chatml"}))
    return folder


def command(source: Path, data: Path, workdir: Path, num_steps: int, more: dict):
    settings = {
        "source": source,
        "data.paths": data,
        "data.row_length": made.ROW,
        "data.template": "model",
        "train.num_steps": num_steps,
        "train.batch_size": 8,
        "train.num_microbatches": 1,
        "train.log_every": 1,
        "eval.eval_every": 10,
        "eval.sample_every": 20,
        "eval.max_tokens": 4,
        "checkpoint.save_every": 5,
        "optimizer.name": "adamw",
        **more,
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["run", "experiments/instruct.py", "--workdir", str(workdir), *overrides]


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNINGS)
def test_a_killed_tuning_ends_as_one_that_never_was(base: Path, name: str):
    straight, killed = base / f"{name}_straight", base / f"{name}_killed"
    data, steps = base / "questions.jsonl", 60
    of = (base / "chat", data)
    genlm(*command(*of, straight, steps, TUNINGS[name]))
    rng, where = random.Random(0), []
    for after, moment in ((0, "start"), (5, "save"), (20, "step"), (30, "save")):
        again = command(*of, killed, steps, TUNINGS[name])
        where.append(_kill_once(again, killed, after, moment, rng, None))
    assert "end" not in where
    genlm(*command(*of, killed, steps, TUNINGS[name]))
    for a, b in zip(arrays(straight), arrays(killed), strict=True):
        np.testing.assert_array_equal(a, b)
    for file in ("metrics.jsonl", "samples.jsonl"):
        assert _timeless(straight / file) == _timeless(killed / file)
    adapters = [run / "adapter" / "adapter.safetensors" for run in (straight, killed)]
    if name == "change":
        assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert "as it was written" in genlm("verify", killed).stdout
