"""Scaling laws: a ladder of small runs foretells a larger one before it is run.

  genlm run experiments/scaling.py --workdir runs/scaling

Twelve runs, four widths by three budgets of bytes, each with a schedule that ends with
its budget: a run cut off in a longer one's middle is no measure of it
(arXiv:2203.15556). Widths of one depth, since models of one and two layers follow a law
of their own; the rest is as the dial has it (experiments/dial.py). Then the stages
`fit`, which foretells the run `largest` (2.4 times the compute of any before), the run
itself, and `check`. docs/scaling.svg is what `check` drew.

Hardware and time: 20 minutes on one core of two that did other work too.
Result, measured twice, seed 0: 1.329 nats a byte foretold (1.276 to 1.363), 1.335
measured, an error of -0.44 %. A power law in compute alone is off by -6.4 %.
"""

from ml_collections import ConfigDict

from experiments import base, dial

WIDTHS = [32, 48, 64, 96]  # of four layers, so of heads of a quarter
BUDGETS = [1_000_000, 1_500_000, 2_200_000]  # tokens; the text has 2.2 M
LARGEST = [128, 3_000_000]


def get_config(arg: str = "") -> ConfigDict:
    """Prepare once, the ladder, its fit, then the largest run and the comparison."""
    widths, budgets, (width, budget) = WIDTHS, BUDGETS, LARGEST
    layers, rows, draws = 4, 2, 200  # of 4 rows a step there would be too few steps
    parent = base.pretrain("nano")
    if base.argument(arg, "smoke"):
        base.smoke(parent)
        widths, budgets, (width, budget) = [8, 12, 16], [512, 768], [24, 1024]
        layers, rows, draws = 1, 8, 10
        parent.data.valid_fraction = 0.01
    parent.train.batch_size = rows
    ladder = {
        f"w{w}_d{d}": _pretrain(parent, dial.shape(layers, w // layers), d)
        for w in widths
        for d in budgets
    }
    largest = _pretrain(parent, dial.shape(layers, width // layers), budget)
    tokens = largest.train.num_steps * largest.train.batch_size * parent.data.row_length
    target = {
        "parameters": dial.num_parameters(largest.model.to_dict(), vocab_size=259),
        "tokens": tokens,
    }
    seed = parent.seed
    data = {k: parent[k].to_dict() for k in ("tokenizer", "data")}
    fit = {"stage": "fit", "seed": seed, "runs": tuple(ladder), "target": target}
    check = {"stage": "check", "seed": seed, "source": "fit", "runs": ("largest",)}
    return ConfigDict(
        {
            "stages": ("prepare", *ladder, "fit", "largest", "check"),
            "prepare": {"stage": "prepare", "seed": seed, **data},
            **ladder,
            "fit": {**fit, "draws": draws},
            "largest": largest,
            "check": check,
        }
    )


def _pretrain(parent: ConfigDict, shape: dict[str, int], tokens: int) -> ConfigDict:
    """A run of `tokens`, whose schedule ends with them."""
    config = parent.copy_and_resolve_references()
    num_steps = round(tokens / parent.train.batch_size / parent.data.row_length)
    config.model.update({**shape, "dtype": "bfloat16"})
    config.optimizer.update(
        {
            "learning_rate": dial.learning_rate(shape["model_dim"]),
            "warmup_steps": min(num_steps // 10, 100),
            "beta2": 0.98,
            "final_rate": 0.02,
        }
    )
    config.train.num_steps = num_steps
    config.eval.update({"eval_every": num_steps, "sample_every": 0, "batch_size": 64})
    config.checkpoint.update({"save_every": num_steps, "keep_last": 1})
    config.data = base.of_prepared("prepare")
    del config.tokenizer
    return config
