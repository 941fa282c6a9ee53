"""Fit and check: what is foretold, from which runs, and by when."""

from pathlib import Path
import shutil

import pytest

from genlm import config, stages
from genlm.errors import UserError
from genlm.runs import directory, lineage
from tests.command import ROOT

RECIPE = f"{ROOT / 'experiments' / 'scaling.py'}:smoke"


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scaling") / "run"
    stages.run(config.load(RECIPE), folder)
    return folder


def test_the_prediction_knows_nothing_of_the_run_it_foretells(life: Path):
    told = directory.read_json(life / "fit" / "results.json")
    seen = {Path(name).name for name in lineage.read(life / "fit")["inputs"]}
    assert seen == {run["name"] for run in told["runs"]} and "largest" not in seen
    begun = (life / "largest" / "config.json").stat().st_mtime_ns
    assert (life / "fit" / "lineage.json").stat().st_mtime_ns < begun
    checked = {Path(name).name for name in lineage.read(life / "check")["inputs"]}
    assert checked == {"fit", "largest"}


def test_the_check_is_of_the_numbers_that_were_foretold(life: Path):
    told = directory.read_json(life / "fit" / "results.json")["prediction"]
    found = directory.read_json(life / "check" / "results.json")
    error = told["loss"] / found["measured"] - 1
    assert found["relative_error"]["the law"] == pytest.approx(error)
    assert (life / "check" / "scaling.svg").read_text("utf-8").count("measured") == 1


def test_a_prediction_that_was_altered_is_not_checked(life: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(life, copy)
    shutil.rmtree(copy / "check")
    results = copy / "fit" / "results.json"
    results.write_text(results.read_text().replace('"loss"', '"loss" ', 1))
    recipe = config.load(RECIPE, ["--config.stages=check"])
    recipe.unlock()
    recipe.check.update({"source": str(copy / "fit"), "runs": (str(copy / "largest"),)})
    with pytest.raises(UserError, match="damaged: .*results.json: changed"):
        stages.run(recipe, tmp_path / "again")


@pytest.mark.parametrize(
    "override, said",
    [
        ("fit.runs=n1_d256,n1_d512", "a law of five constants needs 6"),
        ("fit.draws=0", "draws 0 is not a positive number"),
        ("fit.target.tokens=0", "target.parameters or tokens is not positive"),
        ("check.runs=n1_d256,largest", "does not name the one run to check"),
        ("check.runs=largset", "no earlier stage"),
    ],
)
def test_a_wrong_value_is_said_before_any_work(override: str, said: str, tmp_path):
    recipe = config.load(RECIPE, [f"--config.{override}"])
    with pytest.raises(UserError, match=said):
        stages.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
