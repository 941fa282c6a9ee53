"""A sweep: ordinary runs on one text, compared; its seeds apart or as one program."""

import contextlib
import io
import math
from pathlib import Path
import shutil

import jax.numpy as jnp
import pytest

from genlm import config
from genlm.errors import UserError
from genlm.interop.run import open_run
from genlm.parallel import hosts
from genlm.runs import contents, directory, lineage, metrics
from genlm.stages import sweep
from genlm.train import seeds
from genlm.train.seeds import NotTogether
from genlm.train.state import TrainState
from tests.command import ROOT

RECIPE = f"{ROOT / 'experiments' / 'pretrain_names.py'}:smoke"
RATES = "optimizer.learning_rate=1e-3,0.003"
_TIMES = {"seconds", "tokens_per_second", "memory_mb"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    text = tmp_path_factory.mktemp("names") / "names.txt"
    text.write_text("".join(f"name {n * n}\n" for n in range(200)))
    overrides = [f"data.paths={text}", "eval.sample_every=0"]
    return config.load(RECIPE, [f"--config.{o}" for o in overrides])


@pytest.fixture(scope="module")
def apart(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("apart") / "sweep"
    assert sweep.run(recipe, folder, [RATES], (0, 1), is_together=False)
    return folder


@pytest.fixture(scope="module")
def together(recipe, tmp_path_factory) -> Path:
    """Of the two settings one diverges."""
    folder = tmp_path_factory.mktemp("together") / "sweep"
    rates = "optimizer.learning_rate=1e-3,1e30"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert not sweep.run(recipe, folder, [rates], (0, 1), is_together=True)
    assert "one after the other" not in said.getvalue()
    return folder


def test_every_point_is_a_run_and_the_best_comes_first(apart: Path):
    found = directory.read_json(apart / "sweep.json")
    assert [point["name"] for point in found["points"]] == [
        f"learning_rate={rate},seed={seed}"
        for rate in ("1e-3", "0.003")
        for seed in (0, 1)
    ]
    for point in found["points"]:
        assert lineage.faults(apart / point["name"]) == []
    means = [setting["mean"] for setting in found["settings"]]
    assert means == sorted(means) and len(means) == 2
    best = [
        p for p in found["points"] if p["setting"] == found["settings"][0]["setting"]
    ]
    assert means[0] == pytest.approx(sum(p["valid_loss"] for p in best) / 2)


def test_the_text_is_prepared_once(apart: Path):
    assert sorted(p.parent.name for p in apart.rglob("tokens")) == ["data"]


def test_a_sweep_goes_on_and_finds_what_is_done(recipe, apart: Path):
    before = (apart / "learning_rate=1e-3,seed=0" / "metrics.jsonl").stat().st_mtime_ns
    assert sweep.run(recipe, apart, [RATES], (0, 1), is_together=False)
    after = (apart / "learning_rate=1e-3,seed=0" / "metrics.jsonl").stat().st_mtime_ns
    assert before == after


@pytest.mark.slow
def test_seeds_together_are_as_apart(apart: Path, together: Path):
    """Up to rounding, in every value of metrics.jsonl but times."""
    for seed in (0, 1):
        mine, theirs = (
            metrics.read(folder / f"learning_rate=1e-3,seed={seed}" / "metrics.jsonl")
            for folder in (together, apart)
        )
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs):
            assert a.keys() == b.keys()
            for key in a.keys() - _TIMES:
                assert math.isclose(a[key], b[key], rel_tol=1e-5), (key, a, b)


@pytest.mark.slow
def test_a_run_of_several_seeds_opens_and_is_whole(together: Path):
    folder = together / "learning_rate=1e-3,seed=1"
    assert lineage.faults(folder) == []
    assert open_run(folder).step == 2


@pytest.mark.slow
def test_points_that_fail_leave_the_others(together: Path):
    found = directory.read_json(together / "sweep.json")
    errors = [point["error"] for point in found["points"]]
    assert errors[:2] == ["", ""]
    assert all("lower learning rate may help" in error for error in errors[2:])
    last = found["settings"][-1]
    assert last["setting"] == "learning_rate=1e30" and last["failed"] == 2


def test_seeds_that_do_not_fit_take_turns(recipe, apart: Path, capsys, monkeypatch):
    def too_large(todo):
        raise NotTogether("no room")

    monkeypatch.setattr(sweep.together, "run", too_large)
    assert sweep.run(recipe, apart, [RATES], (0, 1), is_together=True)
    assert "one after the other: no room" in capsys.readouterr().out


def test_seeds_that_share_no_checkpoint_lose_none(recipe, apart: Path, tmp_path):
    folder = shutil.copytree(apart, tmp_path / "sweep")
    runs = [folder / f"learning_rate=1e-3,seed={seed}" for seed in (0, 1)]
    for run, step in zip(runs, (1, 2)):  # of two checkpoints one is left
        (run / "lineage.json").unlink()
        (run / "checkpoints" / f"{step}.0.json").unlink()
        shutil.rmtree(run / "checkpoints" / str(step))
    before = sorted(p for run in runs for p in (run / "checkpoints").rglob("*"))
    with pytest.raises(NotTogether, match="share no whole checkpoint"):
        sweep.together.run(
            {
                folder / p.name: p.config
                for p in sweep.points(recipe, [RATES], (0, 1), folder)[:2]
            }
        )
    assert before == sorted(p for r in runs for p in (r / "checkpoints").rglob("*"))


def test_a_report_of_a_sweep_names_its_runs(apart: Path):
    with pytest.raises(UserError, match="seed=0.*seed=1.* --compare"):
        contents.read(apart)


def test_what_does_not_fit_is_told_from_the_compiled_step(monkeypatch):
    def make(seed):
        state = jnp.zeros(8) + seed
        return TrainState(step=0, params=state, opt_state=(), key=seed)

    def step(state, batch, frozen):
        return state, {"loss": jnp.sum(state.params * batch)}

    monkeypatch.setattr(hosts, "free_memory", lambda: 100.0)
    with pytest.raises(NotTogether, match="steps of 2 seeds together need"):
        seeds.compile_step(step, make, jnp.arange(2), jnp.ones((2, 8)))


@pytest.mark.parametrize(
    "varied, said",
    [
        ("optimizer.learning_rate", "write section.key=a,b"),
        ("data.row_length=32,64", "all points share data, tokenizer"),
        ("eval.prompts=a,b", "its own values have commas"),
        ("optimizer.learnin_rate=1", "did you mean 'learning_rate'"),
        ("optimizer.name=adamw,adam", "name is one of"),
        ("train.num_steps=2,2", "two points"),
        ("eval.eval_every=2,0", "eval.eval_every is 0"),
        ("checkpoint.copy_to=,gs://bucket", "copy_to is one run's"),
    ],
)
def test_a_mistake_is_said_before_any_work(recipe, varied: str, said: str, tmp_path):
    with pytest.raises(UserError, match=said):
        sweep.run(recipe, tmp_path / "s", [varied], (0,), is_together=False)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "name", ["eval", "checkpoint", "seed", "tokenizer", "data", "model"]
)
def test_a_recipe_that_lacks_a_section(recipe, name: str, tmp_path):
    without = recipe.copy_and_resolve_references().unlock()
    del without[name]
    with pytest.raises(UserError, match=f"lacks {name}"):
        sweep.run(without.lock(), tmp_path / "s", [], (0,), is_together=False)
    assert not (tmp_path / "s").exists()


def test_a_point_without_memory_leaves_the_others(
    recipe, apart: Path, tmp_path, monkeypatch
):
    """Of seeds together too: they take turns, and each fails by itself."""
    train = sweep.stages.run

    def run(point, folder):
        if point.seed == 0:
            jnp.zeros(1 << 45)
        train(point, folder)

    def too_large(todo):
        jnp.zeros(1 << 45)

    monkeypatch.setattr(sweep.stages, "run", run)
    monkeypatch.setattr(sweep.together, "run", too_large)
    prepared = recipe.copy_and_resolve_references()
    prepared.data.prepared = str(apart / "data")
    assert not sweep.run(prepared, tmp_path, [], (0, 1), is_together=True)
    points = directory.read_json(tmp_path / "sweep.json")["points"]
    assert "a smaller batch" in points[0]["error"] and points[1]["error"] == ""


def test_a_life_is_not_swept(tmp_path):
    life = config.load(str(ROOT / "experiments" / "life.py"))
    with pytest.raises(UserError, match="one pretrain stage"):
        sweep.run(life, tmp_path / "s", [], (0,), is_together=False)
