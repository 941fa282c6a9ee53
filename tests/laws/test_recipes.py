"""THE RECIPES LAW: every experiment runs in smoke mode, and says how to run it."""

from pathlib import Path

import pytest

from genlm import config, stages
from genlm.runs import lineage
from tests.command import ROOT, genlm
from tests.interop import gguf_files

PARENTS = {"__init__", "alignment", "base", "dial", "pods"}
RECIPES = sorted(
    p for p in (ROOT / "experiments").rglob("*.py") if p.stem not in PARENTS
)


OF_A_PACKAGE = tuple(
    f"smollm2_{name}" for name in ("generate", "chat", "continue", "sft")
)
PODS = tuple(f"pretrain_{size}" for size in ("125m", "1b", "8b", "70b", "moe_8x"))
LONG = (
    "classify_text",
    "align_best",
    "align_sums",
    "preferences",
    "domain",
    "distill",
    "embed_xquad",
    "instruct",
    "optimizers",
    "scaling",
    "pretrain_text",
    "tiny_shakespeare",
)
LONG += OF_A_PACKAGE + PODS
SHORT = [
    pytest.param(p, marks=pytest.mark.slow) if p.stem in LONG else p
    for p in RECIPES
    if p.stem != "life"  # tests/test_first_life.py runs that
]


@pytest.mark.parametrize("path", SHORT, ids=lambda p: p.stem)
def test_every_recipe_runs_in_smoke_mode(path: Path, tmp_path: Path):
    if path.stem in OF_A_PACKAGE:
        gguf_files.smollm2()
        # in a process of its own: quick compilation makes a real model slow
        genlm("run", f"{path}:smoke", "--workdir", tmp_path / "run")
    else:
        stages.run(config.load(f"{path}:smoke"), tmp_path / "run")
    made = sorted((tmp_path / "run").rglob("lineage.json"))
    assert made, "no stage ran"
    for file in made:
        assert lineage.faults(file.parent) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_data_and_says_its_command(path: Path):
    recipe = config.load(str(path))
    assert config.from_json(config.to_json(recipe)).to_dict() == recipe.to_dict()
    text = path.read_text("utf-8")
    assert f"genlm run {path.relative_to(ROOT)}" in text
    assert '"""' == text[:3]
