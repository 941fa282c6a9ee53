"""The recipes that the tests make mistakes with."""

NAMES = "experiments/pretrain_names.py:smoke"
# Of this one mistakes show in a third of a second, because it never loads jax.
PREPARE_ONLY = """
from ml_collections import ConfigDict
from experiments import base

def get_config(arg=""):
    whole = base.smoke(base.pretrain())
    own = {"tokenizer": whole.tokenizer.to_dict(), "data": whole.data.to_dict()}
    return ConfigDict({"stage": "prepare", "seed": 0, **own})
"""

EVALUATE_ONLY = """
from experiments import life

def get_config(arg=""):
    return life.get_config("smoke").evaluate
"""


def overrides(settings: dict[str, object]) -> list[str]:
    return [f"--config.{key}={value}" for key, value in settings.items()]
