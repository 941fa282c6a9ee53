"""`genlm eval` and the stage evaluate on runs that are trained here."""

import json
from pathlib import Path
import shutil
import sys

from ml_collections import ConfigDict
import pytest

from experiments import life
from genlm import stages
from genlm.cli.__main__ import main
from genlm.runs import contents, lineage, report
from tests.data_files import write_names

ROWS = [
    {"q": f"what is {n} and {n}", "choices": ["few", "many", f"{2 * n}"], "gold": 2}
    for n in range(8)
]
TASK = {
    "kind": "choices",
    "data": "sums.jsonl",
    "licence": "CC0",
    "note": "sums",
    "context": "{q}",
    "choices": "choices",
    "gold": "gold",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two runs of one recipe, and a task."""
    folder = tmp_path_factory.mktemp("eval")
    names = write_names(folder / "names.txt", 200)
    command = ["run", "experiments/pretrain_names.py:smoke", "--workdir"]
    for seed in (0, 1):
        changes = [f"--config.data.paths={names}", f"--config.seed={seed}"]
        assert main([*command, str(folder / f"run{seed}"), *changes]) == 0
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "sums.jsonl").write_text(lines)
    (folder / "sums.json").write_text(json.dumps(TASK))
    return folder


def _eval(folder: Path, *more: str) -> int:
    asked = ["--tasks", str(folder / "sums.json"), "--data", str(folder)]
    return main(["eval", "--from", str(folder / "run0"), *asked, *more])


@pytest.mark.slow
def test_two_seeds_side_by_side(folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    other = str(folder / "run1")
    assert _eval(folder, "--from", other, "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert "sums: 8 rows" in said and "2 seeds: mean" in said
    assert "not distinguishable" in said or "(+" in said or "(-" in said
    assert "seen in training: 0 of" in said
    results = json.loads((out / "results.json").read_text())["runs"]
    assert [Path(each["run"]).name for each in results] == ["run0", "run1"]
    rows = [json.loads(line) for line in (out / "rows.jsonl").open()]
    assert [row["row"] for row in rows] == [*range(1, 9)] * 2
    for place, each in enumerate(results):
        metrics = each["tasks"]["sums"]["metrics"]
        own = rows[8 * place : 8 * place + 8]
        value = sum(row["accuracy"] for row in own) / 8
        assert metrics["accuracy"]["value"] == pytest.approx(value)
        assert metrics["accuracy"]["low"] <= value <= metrics["accuracy"]["high"]


def test_json_and_limit(folder: Path, capsys):
    assert _eval(folder, "--limit", "3", "--json") == 0
    (run,) = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert run["tasks"]["sums"]["n"] == 3 and run["step"] == 2


@pytest.mark.parametrize(
    "more, words",
    [
        (["--tasks", "arc_esay"], "did you mean 'arc_easy'"),
        (["--tasks", ""], "--tasks names none"),
        (["--tasks", "copa,copa"], "task copa is asked for twice"),
        (["--tasks", "copa"], "task copa: cannot read"),
        (["--limit", "-1"], "-1, is below 0"),
        (["--from", "nothing"], "--from: no directory nothing"),
    ],
)
def test_mistakes_are_one_line(folder: Path, more: list[str], words: str, capsys):
    assert _eval(folder, *more) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said, said


def test_a_row_without_its_field_is_found_before_any_work(
    folder: Path, tmp_path: Path, capsys
):
    (tmp_path / "odd.json").write_text(json.dumps(TASK | {"context": "{qq}"}))
    assert _eval(folder, "--tasks", f"{folder}/sums.json,{tmp_path}/odd.json") == 1
    said = capsys.readouterr().err
    assert "sums.jsonl line 1: no field 'qq'; did you mean 'q'" in said
    assert said.count("\n") == 1


def test_lm_eval_mistakes_are_one_line(folder: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    run = ["lm_eval", "--from", str(folder / "run0"), "--tasks", "piqa"]
    for more, words in (
        ([], "pip install 'genlm[lm-eval]'"),
        (["--include", "nothing"], "--include: no directory nothing"),
        (["--limit", "0"], "--limit 0 is not positive"),
    ):
        assert main([*run, *more]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and words in said, said


def _life(folder: Path, *names: str) -> ConfigDict:
    """The stages that measure both runs on the task."""
    config = ConfigDict({"stages": names})
    for name in names:
        section = life.get_config("smoke").evaluate
        section.source = str(folder / name)
        section.data.prepared = ""
        section.tasks.names = (str(folder / "sums.json"),)
        section.tasks.data = str(folder)
        config[name] = section
    return config


def test_stages_of_a_life_stand_side_by_side_in_its_report(
    folder: Path, tmp_path: Path
):
    workdir = tmp_path / "life"
    stages.run(_life(folder, "run0", "run1"), workdir)
    for name in ("run0", "run1"):
        assert lineage.faults(workdir / name) == []
        made = lineage.read(workdir / name)
        assert str(folder / "sums.jsonl") in made["inputs"]
        assert "rows.jsonl" in made["outputs"]
    first, second = contents.read(workdir)
    assert [row["row"] for row in first.rows] == [*range(1, 9)]
    page = report.page(workdir, lambda shape: 1, lambda *_: (0.25, -0.125, 0.5))
    assert "run1 (run1)" in page and "+0.250, not distinguishable" in page
    found = first.tasks["sums"]["metrics"]["accuracy"]
    assert f"{found['low']:.3f} to {found['high']:.3f}" in page
    assert "calibration error, lower is better" in page
    stages.run(_life(folder, "run0", "run1"), workdir)  # nothing is left to do
    shutil.rmtree(workdir)


def test_a_stage_that_would_measure_nothing(folder: Path, tmp_path: Path, capsys):
    config = _life(folder, "run0")
    config.run0.tasks.names = ()
    with pytest.raises(Exception, match="nothing to measure"):
        stages.run(config, tmp_path / "life")
