"""THE PLANS LAW: every recipe for TPU pods compiles and fits, its products are those of
the model and what full rematerialisation adds, and docs/plans.md is what was measured.
"""

import importlib.util
import json

from ml_collections import ConfigDict
import pytest

from benchmarks import plans
from genlm import config
from genlm.parallel import mesh as meshes
from genlm.parallel import plan
from genlm.parallel.plan import TooLarge
from genlm.stages import planning
from tests.command import ROOT, genlm, mistake

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="no compiler for TPUs: make planned installs it",
)
CASES = [(size, *grid) for size, grids in plans.GRIDS.items() for grid in grids]
BY_TENSOR = ["--config.parallel.tensor=8", "--config.parallel.fsdp=1"]
USE = {
    ("1b", "v5p"): 0.65,
    ("8b", "v5p"): 0.65,
    ("1b", "v6e"): 0.55,
    ("8b", "v6e"): 0.55,
}


def path(size: str, arg: str) -> str:
    return f"{ROOT}/experiments/pretrain_{size}.py:{arg}"


def assert_no_weight_moves_twice(planned: planning.Planned, recipe: ConfigDict):
    """Each is gathered forward and backward in bfloat16, and its gradient is summed
    once in float32, by a reduce-scatter; but the embedding's, which is made by adding
    up rows, and one attention weight of 8b, which is gathered a third time."""
    moved: dict[str, int] = {}
    for each in planned.plan.traffic:
        if "fsdp" in each.axes:
            moved[each.kind] = moved.get(each.kind, 0) + each.bytes
    embedding = recipe.tokenizer.vocab_size * recipe.model.model_dim
    assert moved["all-gather"] <= 1.08 * (2 + 2) * planned.parameters
    assert moved["reduce-scatter"] <= 1.05 * 4 * planned.parameters
    assert moved["all-reduce"] <= 1.05 * 4 * 2 * embedding


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("size, arg, topology", CASES)
def test_a_recipe_fits_as_the_page_says(size: str, arg: str, topology: str):
    planned = plans.plan(size, arg, topology)
    row = plans.summary(planned)
    assert row.share <= 0.9
    if size != "moe_8x":
        assert row.operations <= 1.40
    if size in ("1b", "8b"):
        assert_no_weight_moves_twice(planned, config.load(path(size, arg)))
    assert row.use >= USE.get((size, arg), 0)
    for now, then in zip(
        (row.memory, row.operations, row.links), plans.kept(plans.read()[size, arg])
    ):
        assert now <= 1.05 * then


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("size", ["8b"])  # 1b is a little above (docs/log.md)
def test_lighter_rematerialisation_computes_less(size: str):
    """On a small slice: what is computed does not hang on the number of chips."""

    def operations(remat: str) -> float:
        settings = ["parallel.data=1", "parallel.fsdp=16", "train.batch_size=16"]
        settings += [f"model.remat={remat}"]
        recipe = config.load(
            path(size, "v5p"), [f"--config.{each}" for each in settings]
        )
        return plans.summary(planning.train(recipe, "v5p:2x2x4")).operations

    _, full, _ = plans.kept(plans.read()[size, "v5p"])
    assert (none := operations("none")) <= 1.05
    assert none < operations("dots") < full


def test_the_page_has_every_recipe():
    assert list(plans.read()) == [(size, arg) for size, arg, _ in CASES]


@pytest.mark.parametrize("size, arg, topology", CASES)
def test_a_recipe_says_what_the_page_says(size: str, arg: str, topology: str):
    text = (ROOT / "experiments" / f"pretrain_{size}.py").read_text("utf-8")
    cells = [cell.strip() for cell in plans.read()[size, arg].strip("| ").split("|")]
    memory, share = cells[3].split()
    grid = topology.partition(":")[2]
    said = f":{arg} on {grid}: {memory} GiB {share} of HBM, use {cells[-1]}"
    assert said in text


@pytest.mark.slow
@needs_compiler
def test_what_does_not_fit_is_said_with_what_would_help():
    recipe = config.load(
        f"{ROOT}/experiments/pretrain_8b.py:v6e",
        [
            "--config.parallel.data=1",
            "--config.parallel.fsdp=4",
            "--config.train.batch_size=64",
        ],
    )
    with pytest.raises(TooLarge, match="fit: needs .*G of .*G HBM.*--config.train"):
        planning.train(recipe, "v5e:2x2")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "sizes", [(2, 32, 1), (4, 16, 1), (2, 4, 8), (1, 1, 64)], ids=str
)
def test_any_sizes_lie_on_a_torus(sizes: tuple[int, int, int]):
    """Also those that are no side of it: two is none of a 4x4x4."""
    _, devices = plan.topology("v5p:4x4x4")
    data, fsdp, tensor = sizes
    mesh = meshes.make(meshes.MeshConfig(data, fsdp, tensor=tensor), devices)
    assert set(mesh.devices.flat) == set(devices)
    assert mesh.shape["fsdp"] == fsdp


@pytest.mark.slow
@needs_compiler
def test_the_verb():
    small = ["--config.model.num_layers=2", "--config.train.batch_size=32"]
    recipe = ["experiments/pretrain_125m.py:v5e", "--topology", "v5e:4x4", *small]
    said = genlm("plan", *recipe, "--tokens", "1e9", "--price", "1.2").stdout
    for part in ("memory", "links", "at most", "chip-hours"):
        assert part in said
    serving = json.loads(genlm("plan", *recipe, "--serve", "32", "--json").stdout)
    prefill, decode = serving["plans"]
    assert (prefill["what"], decode["what"]) == ("prefill", "decode")
    assert prefill["model_flops"] == 2048 * decode["model_flops"]
    assert decode["hbm_seconds"] > decode["compute_seconds"]  # it reads all weights


@pytest.mark.slow
@needs_compiler
def test_meshes_are_ranked(monkeypatch):
    monkeypatch.setattr(planning, "REMAT", ("full",))  # the others take minutes more
    monkeypatch.setattr(planning, "OTHERS", ((1, 1), (1, 2)))
    small = ["--config.model.num_layers=2", "--config.train.batch_size=32"]
    config_ = config.load(f"{ROOT}/experiments/pretrain_125m.py:v5e", small)
    told = []
    ranked = planning.sweep(config_, "v5e:2x2", lambda *said: told.append(said))
    assert len(told) == told[-1][1] and ranked
    rates = [planned.rate for _, planned in ranked]
    assert rates == sorted(rates, reverse=True)


FAST = ["--topology", "v5e:4x4"]


@pytest.mark.parametrize(
    "recipe, change, said",
    [
        ("pretrain_125m", ["--topology", "v9z:4x4"], "is not a kind of chip"),
        ("pretrain_125m", ["--topology", "v5e"], "is not a kind of chip"),
        ("pretrain_125m", ["--topology", "v5e:2x2x2"], "v5e has 2 dims"),
        ("pretrain_125m", ["--topology", "v5e", "--sweep"], "is not a kind of chip"),
        ("pretrain_125m", [*FAST, "--price", "2"], "say --tokens, too"),
        ("pretrain_125m", FAST, "pip install 'genlm[tpu]'"),
        ("pretrain_125m", [*FAST, "--sweep"], "pip install 'genlm[tpu]'"),
        ("life", [*FAST, "--sweep"], "one pretrain stage"),
    ],
)
def test_mistakes_that_need_no_compiler(
    recipe: str, change: list[str], said: str, monkeypatch, mistake_here
):
    monkeypatch.setattr(plan, "find_spec", lambda name: None)
    assert said in mistake_here("plan", f"{ROOT}/experiments/{recipe}.py", *change)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "change, said",
    [
        (["--topology", "v5e:3x5"], "--topology v5e:3x5"),
        (["--topology", "v5e:4x4", "--config.parallel.fsdp=3"], "do not multiply"),
        (["--topology", "v5e:4x4", "--config.train.batch_size=17"], "does not divide"),
        (["--topology", "v5e:4x4", *BY_TENSOR], "num_heads 12 does not divide over 8"),
        (["--topology", "v5e:4x4", "--serve", "17"], "does not divide"),
        (["--topology", "v5e:4x4", "--sweep", "--config.parallel.expert=0"], "--sweep"),
    ],
)
def test_mistakes(change: list[str], said: str):
    assert said in mistake("plan", "experiments/pretrain_125m.py:v5e", *change)
