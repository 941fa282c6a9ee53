"""THE RESUME LAW of a classifier: killed while it prepares, trains and saves, it ends
with the same arrays, to the bit, and the same scores."""

import random
import time

import numpy as np
import pytest

from tests.command import genlm
from tests.laws import test_resume as law
from tests.stages import made

RECIPE = "experiments/classify_text.py:smoke"


@pytest.mark.slow
def test_a_killed_classifier_ends_as_an_uninterrupted_one(tmp_path):
    settings = {
        "data.paths": made.labelled(tmp_path / "rows.jsonl"),
        "train.num_steps": 60,
        "train.num_microbatches": 2,
        "eval.eval_every": 10,
        "checkpoint.save_every": 5,
        "model.dropout": 0.1,
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    command = ["run", RECIPE, *overrides, "--workdir"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    genlm(*command, straight)
    rng = random.Random(0)
    again = [*command, str(killed)]
    law._kill_once(again, killed, 0, "start", rng, None)
    for after, moment in ((8, "step"), (25, "save")):
        assert law._kill_once(again, killed, after, moment, rng, None) != "end"
    process = law._start(again)
    while process.poll() is None and not (killed / "predictions.jsonl").exists():
        time.sleep(0.002)
    assert process.poll() is None, "it ended before its results were written"
    process.kill()
    process.wait()
    genlm(*command, killed)
    assert "as it was written" in genlm("verify", killed).stdout
    for a, b in zip(law.arrays(straight), law.arrays(killed), strict=True):
        np.testing.assert_array_equal(a, b)
    rows = [law._timeless(run / "metrics.jsonl") for run in (straight, killed)]
    assert rows[0] == rows[1] and "accuracy" in rows[0][-1]
    for name in ("results.json", "predictions.jsonl"):
        assert (straight / name).read_bytes() == (killed / name).read_bytes()
