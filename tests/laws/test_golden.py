"""GOLDEN TRAJECTORIES: 200 steps of three recipes, beside what they were.

A change that moves them says so: `GENLM_RENEW=1 python -m pytest
tests/laws/test_golden.py -m 'slow or not slow'` writes tests/golden/ anew, for the
commit to show. They learn the names of characters in Unicode 3.2, which no Python
changes. Rounding differs between processors and versions of XLA, and grows with the
steps; the bounds leave room for that (largest seen, jax 0.12 beside 0.10: 0.0005 and
0.00004).
"""

import json
import os
from pathlib import Path
import unicodedata

import numpy as np
import pytest

from genlm.runs import metrics
from tests.command import ROOT, genlm

LARGEST, MEAN = 0.01, 0.001  # nats
RECIPES = {
    "adamw": {},
    "muon": {
        "optimizer.name": "muon",
        "optimizer.schedule": "wsd",
        "train.ema_decay": 0.95,
        "train.num_microbatches": 2,
        "train.ramp_from": 4,
        "train.ramp_steps": 30,
    },
    "wide": {
        "model.mup_base_width": 16,
        "model.dtype": "bfloat16",
        "model.dropout": 0.1,
        "model.scan_layers": True,
        "train.z_loss": 1e-4,
        "optimizer.schedule": "linear",
    },
}
SETTINGS = {
    "train.num_steps": 200,
    "train.log_every": 1,
    "eval.eval_every": 0,
    "eval.sample_every": 0,
    "checkpoint.save_every": 200,
    "optimizer.learning_rate": 3e-3,
    "optimizer.warmup_steps": 20,
}


def _write_names(path: Path) -> Path:
    database = unicodedata.ucd_3_2_0
    names = (database.name(chr(code), "") for code in range(0x20, 0x2000))
    path.write_text("\n".join(filter(None, names)).lower() + "\n", "utf-8")
    return path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("adamw", marks=pytest.mark.slow),
        "muon",
        pytest.param("wide", marks=pytest.mark.slow),
    ],
)
def test_a_recipe_learns_as_it_did(name: str, tmp_path: Path):
    names = _write_names(tmp_path / "names.txt")
    settings = {"data.paths": names, **SETTINGS, **RECIPES[name]}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    recipe = "experiments/pretrain_names.py:smoke"
    genlm("run", recipe, "--workdir", tmp_path / "run", *overrides)
    curve = [r["loss"] for r in metrics.read(tmp_path / "run" / "metrics.jsonl")]
    golden = ROOT / "tests" / "golden" / f"{name}.json"
    if os.environ.get("GENLM_RENEW"):
        golden.write_text(json.dumps([round(x, 5) for x in curve]) + "\n")
    then = np.asarray(json.loads(golden.read_text()))
    assert len(then) == 200 and then[-1] < 0.6 * then[0]
    difference = np.asarray(curve) - then
    assert np.abs(difference).max() <= LARGEST, np.abs(difference).max()
    assert abs(difference.mean()) <= MEAN, difference.mean()
