"""Arithmetic by reward alone: a model that answers learns to add.

  genlm run experiments/align_sums.py --workdir runs/sums \
      --config.source=runs/life/sft

The life's fine-tuned model is asked for sums of two numbers from 10 to 99, and told
nothing but whether it was right, and how near it was; a tenth of the sums is held out.
Hardware and time: two CPU cores, 3 min 20 s. Result: of all 776 held-out sums it gets
11.0 % right before and 81.7 % after (39.8 % after 300 rounds; seed 0, likeliest
answers). ':ppo' has a critic in the place of a group's mean: 200 rounds of eight
updates, 9 min beside other work, 81.6 % of 256 held-out sums. ':online_dpo' learns from
pairs (planned, not run); ':smoke' begins with a tiny model that knows nothing.
"""

from ml_collections import ConfigDict

from experiments import alignment, base, life


def get_config(arg: str = "") -> ConfigDict:
    """One stage, grpo (with RLOO's baseline), ppo or online_dpo; ':smoke' makes its
    model too."""
    arg = base.argument(arg, "smoke", "ppo", "online_dpo")
    if arg != "smoke":
        return alignment.sums(arg or "grpo")
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
