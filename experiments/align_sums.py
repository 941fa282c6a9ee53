"""Arithmetic by reward alone: a model that answers learns to add.

  genlm run experiments/align_sums.py --workdir runs/sums \
      --config.grpo.source=runs/life/sft --config.ppo.source=runs/life/sft
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """GRPO (as RLOO), and PPO, on sums of two numbers from 10 to 99."""
    is_smoke = bool(base.argument(arg, "smoke"))
    config = ConfigDict({"stages": ("grpo",), "grpo": _of(base.grpo("sft"), is_smoke)})
    return config


def _of(config: ConfigDict, is_smoke: bool) -> ConfigDict:
    config.model.dtype = "bfloat16"
    config.rollout.update({"answers": 16, "slots": 32, "max_tokens": 8})
    config.train.update({"num_steps": 200, "batch_size": 16})
    config.optimizer.update(
        {"learning_rate": 2e-4, "warmup_steps": 5, "schedule": "constant"}
    )
    config.eval.update(
        {"eval_every": 25, "sample_every": 25, "batch_size": 64, "max_rows": 256}
    )
    config.checkpoint.save_every = 50
    return config
