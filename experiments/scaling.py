"""Scaling laws: a ladder of small runs foretells a larger one before it is run.

  genlm run experiments/scaling.py --workdir runs/scaling

TODO
"""

from ml_collections import ConfigDict

from experiments import base, dial

SIZES = (1, 2, 3, 4)  # layers
BUDGETS = (400_000, 800_000, 1_600_000, 3_200_000)  # tokens, here bytes
LARGEST = (5, 4_800_000)
_ROWS, _LENGTH = 4, 256


def get_config(arg: str = "") -> ConfigDict:
    """Prepare once, the ladder, the fit, then the largest run and the comparison."""
    arg = base.argument(arg, "smoke")
    parent = base.pretrain("nano")
    prepare = {k: parent[k].to_dict() for k in ("tokenizer", "data")}
    ladder = {
        f"n{size}_d{budget // 1000}k": _rung(size, budget, arg)
        for size in SIZES
        for budget in BUDGETS
    }
    largest = _rung(*LARGEST, arg)
    return ConfigDict(
        {
            "stages": ("prepare", *ladder, "largest"),
            "prepare": {"stage": "prepare", "seed": 0, **prepare},
            **ladder,
            "largest": largest,
        }
    )


def _rung(size: int, budget: int, arg: str) -> ConfigDict:
    """A pretrain stage whose schedule ends with its own budget."""
    config = base.pretrain("nano")
    config.model.update({**dial.shape(size, head_dim=32), "dtype": "bfloat16"})
    num_steps = round(budget / _ROWS / _LENGTH)
    config.optimizer.update(
        {
            "learning_rate": dial.learning_rate(config.model.model_dim),
            "warmup_steps": num_steps // 10,
            "beta2": 0.98,
            "final_rate": 0.02,
        }
    )
    config.train.update({"num_steps": num_steps, "batch_size": _ROWS})
    config.eval.update({"eval_every": num_steps, "sample_every": 0, "batch_size": 64})
    config.checkpoint.update({"save_every": num_steps, "keep_last": 1})
    config.data = ConfigDict({"prepared": "prepare"})
    del config.tokenizer
    return config
