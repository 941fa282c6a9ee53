"""What does not divide over the devices is one line that says what would."""

import jax
import pytest

from genlm import config
from genlm.errors import UserError
from genlm.model.config import TransformerConfig
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.stages import recipe as recipes

MODEL = TransformerConfig(
    vocab_size=64,
    max_length=24,
    num_layers=1,
    model_dim=32,
    num_heads=6,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=64,
    num_experts=6,
    experts_per_token=2,
)

SETTINGS = ["--config.train.batch_size=12", "--config.eval.batch_size=12"]
SETTINGS += ["--config.data.paths=none.txt"]


@pytest.mark.parametrize(
    "sizes, said",
    [
        ({"tensor": 4}, "num_heads 6 does not divide over 4 .* 1, 2, 3 or 6 parts"),
        ({"expert": 4}, "num_experts 6 does not divide over 4 devices"),
        ({"context": 5}, "row_length 24 does not divide into the 5 parts"),
        ({"fsdp": 5}, "batch_size 12 does not divide into 1 microbatches on 5"),
    ],
)
def test_what_does_not_divide(sizes: dict[str, int], said: str):
    recipe = recipes.read(config.load("experiments/pretrain_names.py:smoke", SETTINGS))
    devices = next(iter(sizes.values()))
    mesh = meshes.make(meshes.MeshConfig(data=1, **sizes), jax.devices()[:devices])
    with sharding.laid_out(mesh), pytest.raises(UserError, match=said):
        recipes.check_division(recipe, MODEL, 24, mesh)


def test_what_divides():
    recipe = recipes.read(config.load("experiments/pretrain_names.py:smoke", SETTINGS))
    sizes = meshes.MeshConfig(data=1, fsdp=2, tensor=3)  # two heads of keys stay whole
    mesh = meshes.make(sizes, jax.devices()[:6])
    with sharding.laid_out(mesh):
        recipes.check_division(recipe, MODEL, 24, mesh)
