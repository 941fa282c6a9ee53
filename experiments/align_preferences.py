"""A reward model and DPO."""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """A reward model of people's preferences, and a policy that learns from them."""
    reward, dpo = base.reward("model"), base.dpo("model")
    return ConfigDict({"stages": ("reward", "dpo"), "reward": reward, "dpo": dpo})
