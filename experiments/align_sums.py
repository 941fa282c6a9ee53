"""Arithmetic by reward alone: a model that answers learns to add.

  genlm run experiments/align_sums.py --workdir runs/sums \
      --config.source=runs/life/sft

The life's fine-tuned model is asked for sums of two numbers from 10 to 99, and told
nothing but whether it was right; a tenth of the sums is held out. ':ppo' has a critic
in the place of a group's mean; ':smoke' begins with a tiny model that knows nothing.
"""

from ml_collections import ConfigDict

from experiments import alignment, base, life


def get_config(arg: str = "") -> ConfigDict:
    """One stage, grpo (with RLOO's baseline) or ppo; ':smoke' makes its model too."""
    arg = base.argument(arg, "smoke", "ppo")
    if arg != "smoke":
        return alignment.sums("ppo" if arg else "grpo")
    stages = life.get_config("smoke")
    before = ("prepare", "pretrain", "sft")
    config = alignment.smoke(alignment.sums("grpo", "sft"))
    return ConfigDict(
        {
            "stages": (*before, "grpo"),
            **{name: stages[name] for name in before},
            "grpo": config,
        }
    )
