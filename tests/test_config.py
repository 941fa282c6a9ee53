"""Configs: what an override may say, what is said of a wrong one, and JSON and back."""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict
import pytest

from genlm import config as configs
from genlm.errors import UserError

RECIPE = """
from ml_collections import ConfigDict

def get_config(arg=""):
    return ConfigDict({
        "seed": 0,
        "name": "life" + arg,
        "train": {"rate": 1e-3, "steps": 10, "fast": False, "names": ("a", "b"),
                  "sizes": (1, 2)},
    })
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return path


def _with(recipe: Path, *overrides: str) -> ConfigDict:
    return configs.load(str(recipe), [f"--config.{text}" for text in overrides])


@pytest.mark.parametrize(
    "override, value",
    [
        ("seed=7", 7),
        ("seed=-1", -1),
        ("seed=1_000", 1000),
        ("name=other", "other"),
        ("name=5", "5"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("name='quoted'", "'quoted'"),
        ("train.rate=0.5", 0.5),
        ("train.rate=2", 2.0),
        ("train.rate=1e-4", 1e-4),
        ("train.fast=True", True),
        ("train.fast=true", True),
        ("train.fast=false", False),
        ("train.names=x,y,z", ("x", "y", "z")),
        ("train.names=x", ("x",)),
        ("train.names=('x', 'y')", ("x", "y")),
        ("train.names=", ("",)),
        ("train.names=1,2", ("1", "2")),
        ("train.names=5", ("5",)),
        ("train.sizes=3", (3,)),
        ("train.sizes=3,4,5", (3, 4, 5)),
        ("train.sizes=(3, 4)", (3, 4)),
    ],
)
def test_an_override_has_the_type_of_what_it_replaces(recipe, override, value):
    config = _with(recipe, override)
    found = configs.flatten(config)[override.partition("=")[0]]
    assert found == value and type(found) is type(value)


def test_only_what_is_named_changes_and_the_last_one_counts(recipe):
    before = _with(recipe)
    after = _with(recipe, "train.steps=3", "train.steps=4", "seed=1")
    assert configs.differences(before, after) == ["seed", "train.steps"]
    assert after.train.steps == 4


@pytest.mark.parametrize(
    "override, said",
    [
        ("sed=1", "did you mean 'seed'"),
        ("train.step=1", "did you mean 'steps'"),
        ("trian.steps=1", "did you mean 'train'"),
        ("zzz=1", "keys: .*seed"),
        ("train=1", "is a section"),
        ("seed.x=1", "'seed' is a value"),
        ("seed=1.5", "expected int"),
        ("seed=True", "expected int"),
        ("seed=many", "expected int"),
        ("seed=", "expected int"),
        ("train.rate=fast", "expected float"),
        ("train.fast=1", "expected bool"),
        ("train.fast=yes", "expected bool"),
        ("train.sizes=a,b", "expected int"),
        ("seed", "write --config.section.key=value"),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(recipe, override: str, said: str):
    with pytest.raises(UserError, match=said):
        _with(recipe, override)


def test_an_override_without_config_is_said(recipe):
    with pytest.raises(UserError, match="--config.section.key=value"):
        configs.load(str(recipe), ["--seed=1"])


def test_the_argument_reaches_the_recipe(recipe):
    assert configs.load(f"{recipe}:smoke").name == "lifesmoke"


@pytest.mark.parametrize(
    "source, said",
    [
        ("x = 1", "get_config"),
        ("def get_config(", "line 1"),
    ],
)
def test_a_recipe_that_is_none_is_said(recipe, source: str, said: str):
    recipe.write_text(source)
    with pytest.raises(UserError, match=said):
        configs.load(str(recipe))


def test_a_recipe_that_is_not_there_is_said_with_its_neighbours(recipe):
    with pytest.raises(UserError, match="recipe.py"):
        configs.load(str(recipe.with_name("recipes.py")))


def test_json_and_back(recipe):
    config = _with(recipe, "train.names=x,é")
    config.unlock()
    config.nested = ConfigDict({"deep": {"empty": (), "pairs": ((1, 2), (3, 4))}})
    back = configs.from_json(configs.to_json(config))
    assert back == config and back.to_dict() == config.to_dict()
    assert configs.differences(config, back) == []


@dataclasses.dataclass(frozen=True)
class Section:
    """A section with a default."""

    rate: float
    names: tuple[str, ...]
    steps: int = 5


def test_a_section_becomes_a_dataclass():
    section = ConfigDict({"rate": 0.5, "names": ["a", "b"]})
    made = configs.to_dataclass(Section, section, steps=9)
    assert made == Section(0.5, ("a", "b"), 9)
    assert isinstance(made.names, tuple)


@pytest.mark.parametrize(
    "section, said",
    [
        ({"rate": 0.5}, "names"),
        ({"rate": 0.5, "names": (), "stps": 1}, "stps"),
        ({"rate": float("nan"), "names": ()}, "rate is nan"),
        ({"rate": float("inf"), "names": ()}, "rate is inf"),
    ],
)
def test_a_section_that_does_not_fit_is_said(section, said: str):
    with pytest.raises(UserError, match=said):
        configs.to_dataclass(Section, ConfigDict(section))
