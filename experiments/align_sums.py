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
    config = _of(alignment.ppo() if arg == "ppo" else alignment.grpo())
    if arg != "smoke":
        return config
    stages = life.get_config("smoke")
    config.source = "sft"
    config.rollout.update({"answers": 4, "slots": 64, "max_tokens": 4})
    config.train.update({"num_steps": 2, "batch_size": 8, "log_every": 1})
    config.eval.update({"batch_size": 8, "max_rows": 8})
    config.checkpoint.save_every = 1
    return ConfigDict(
        {
            "stages": ("prepare", "pretrain", "sft", "grpo"),
            **{name: stages[name] for name in ("prepare", "pretrain", "sft")},
            "grpo": config,
        }
    )


def _of(config: ConfigDict) -> ConfigDict:
    config.model.dtype = "bfloat16"
    config.rollout.update({"slots": 32, "max_tokens": 6})
    config.train.update({"num_steps": 300, "batch_size": 16})
    if config.stage == "grpo":
        config.rollout.answers = 16
    else:
        config.train.batch_size = 256
    config.optimizer.update(
        {"learning_rate": 5e-4, "warmup_steps": 5, "schedule": "constant"}
    )
    config.eval.update(
        {"eval_every": 50, "sample_every": 50, "batch_size": 64, "max_rows": 256}
    )
    config.checkpoint.save_every = 100
    return config
