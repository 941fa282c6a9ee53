"""Fit and check: what is foretold, from which runs, and what of it can be altered."""

import dataclasses
import json
from pathlib import Path

from ml_collections import ConfigDict
import pytest

from experiments import dial
from genlm import config, stages
from genlm.errors import UserError
from genlm.evaluate.scaling import Law
from genlm.model import costs, transformer
from genlm.model.config import TransformerConfig
from genlm.runs import directory, lineage
from genlm.stages import fit
from tests.command import ROOT

LAW = Law(E=1.0, A=30.0, alpha=0.3, B=200.0, beta=0.4)
RUNS = [(size, steps) for size in (1, 2, 4) for steps in (500, 1000, 2000)]
LARGEST = (8, 4000)
SMOKE = f"{ROOT / 'experiments' / 'scaling.py'}:smoke"


def _finished(folder: Path, size: int, steps: int, text: str = "text") -> Path:
    """A run that says what the law has for its size and 64 tokens a step."""
    folder.mkdir()
    model = TransformerConfig(vocab_size=259, max_length=16, **dial.shape(size, 16))
    loss = float(LAW(costs.in_products(transformer.param_specs(model)), 64.0 * steps))
    rows = [{"step": steps, "tokens": 64 * steps}, {"step": steps, "valid_loss": loss}]
    directory.write_json(folder / "model.json", dataclasses.asdict(model))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    made = lineage.of_outputs(folder, ["metrics.jsonl"])
    lineage.write(folder, {text: {"sha256": text}}, made)
    return folder


@pytest.fixture()
def life(tmp_path: Path) -> ConfigDict:
    """Fit and check over runs that are there."""
    runs = [_finished(tmp_path / f"n{n}_d{d}", n, d) for n, d in RUNS]
    largest = _finished(tmp_path / "largest", *LARGEST)
    size = fit.Measured.of(largest)
    return ConfigDict(
        {
            "stages": ("fit", "check"),
            "fit": {
                "stage": "fit",
                "seed": 0,
                "runs": tuple(map(str, runs)),
                "target": {"parameters": size.parameters, "tokens": size.tokens},
                "draws": 5,
            },
            "check": {
                "stage": "check",
                "seed": 0,
                "source": "fit",
                "runs": (str(largest),),
            },
        }
    )


def test_a_run_is_foretold_without_a_look_at_it(life: ConfigDict, tmp_path: Path):
    stages.run(life, tmp_path / "life")
    found = directory.read_json(tmp_path / "life" / "check" / "results.json")
    assert found["relative_error"]["the law"] == pytest.approx(0, abs=1e-5)
    assert abs(found["relative_error"]["the best run of the ladder"]) > 0.02
    read = {
        name: {Path(n).name for n in lineage.read(tmp_path / "life" / name)["inputs"]}
        for name in ("fit", "check")
    }
    assert read["fit"] == {f"n{n}_d{d}" for n, d in RUNS}
    assert read["check"] == {"fit", "largest"}
    for name in ("fit", "check"):
        assert lineage.faults(tmp_path / "life" / name) == []
        drawn = (tmp_path / "life" / name / "scaling.svg").read_text("utf-8")
        assert ("measured" in drawn) == (name == "check")


@pytest.mark.parametrize("text", ["[]", '{"width": 8}', '{"num_layers": 0}'])
def test_a_run_with_a_damaged_description_is_named(text: str, tmp_path: Path):
    folder = _finished(tmp_path / "run", *RUNS[0])
    (folder / "model.json").write_text(text)
    with pytest.raises(UserError, match=f"{folder}/model.json is damaged"):
        fit.Measured.of(folder)


def test_a_prediction_that_was_altered_is_not_checked(life, tmp_path: Path):
    life.stages = ("fit",)
    stages.run(life, tmp_path / "life")
    results = tmp_path / "life" / "fit" / "results.json"
    results.write_text(results.read_text().replace("0", "1", 1))
    life.stages = ("fit", "check")
    with pytest.raises(UserError, match="damaged: .*results.json: changed"):
        stages.run(life, tmp_path / "life")


def test_another_run_than_the_one_foretold_is_not_checked(life, tmp_path: Path):
    life.check.runs = life.fit.runs[:1]
    with pytest.raises(UserError, match="the prediction is for .* parameters, and"):
        stages.run(life, tmp_path / "life")


def test_runs_on_different_texts_are_not_compared(life, tmp_path: Path):
    other = _finished(tmp_path / "other", 1, 4000, text="another")
    life.fit.runs += (str(other),)
    with pytest.raises(UserError, match="other were trained on different data"):
        stages.run(life, tmp_path / "life")


@pytest.mark.parametrize(
    "override, said",
    [
        ("fit.runs=w8_d512,w8_d768", "a law of five constants needs 6"),
        ("fit.draws=0", "draws 0 is not a positive number"),
        ("fit.target.tokens=0", "target.parameters or tokens is not positive"),
        ("check.runs=w8_d512,largest", "does not name the one run to check"),
        ("check.runs=largset", "no earlier stage"),
    ],
)
def test_a_wrong_value_is_said_before_any_work(override: str, said: str, tmp_path):
    recipe = config.load(SMOKE, [f"--config.{override}"])
    with pytest.raises(UserError, match=said):
        stages.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
