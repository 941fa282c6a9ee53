"""THE DIAL: one number, the layers, and all that follows from it; `:size=N` in recipes.

The rule, and where each part of it is from:
  width      64 a layer, in heads of 64: one shape at every size, as nanochat's dial
             (https://github.com/karpathy/nanochat)
  mlp        8/3 of the width, up to a multiple of 32 (arXiv:2002.05202, gated)
  tokens     20 a parameter (arXiv:2203.15556); parameters are those in products: the
             blocks and the unembedding
  batch      0.292 C^0.3271 tokens, C = 6 parameters tokens (arXiv:2401.02954), as rows
             to the nearest power of two, at most 64 of them at once
  rate       0.03 / the root of the width: the fall is nanochat's; the height is what
             went best at widths of 32 to 128 (docs/log.md)
  warm-up    a tenth of the steps, at most 100; ten validations, samples and saves a run
"""

import math

from ml_collections import ConfigDict

from experiments import base
from genlm.errors import UserError

_LARGEST = 128  # layers


def argument(arg: str, *known: str) -> tuple[str, int]:
    """`arg` as base.argument has it and 0; or '' and the N of 'size=N'."""
    if not arg.startswith("size="):
        return base.argument(arg, *known, "size=N"), 0
    number = arg.removeprefix("size=")
    if not number.isdecimal() or not 1 <= int(number) <= _LARGEST:
        raise UserError(f"{arg!r}: N is a number of layers from 1 to {_LARGEST}")
    return "", int(number)


def shape(num_layers: int, head_dim: int = 64) -> dict[str, int]:
    """The model's part of the rule; narrower heads make every size narrower."""
    width = head_dim * num_layers
    return {
        "num_layers": num_layers,
        "model_dim": width,
        "num_heads": num_layers,
        "num_kv_heads": num_layers,
        "head_dim": head_dim,
        "mlp_dim": 32 * math.ceil(8 * width / 3 / 32),
    }


def num_parameters(shape: dict[str, int], vocab_size: int) -> int:
    """Parameters in products, of a gated model: a token costs 6 FLOP for each."""
    D, F = shape["model_dim"], shape["mlp_dim"]
    return shape["num_layers"] * (4 * D * D + 3 * D * F) + vocab_size * D


def learning_rate(width: int) -> float:
    return 0.03 / width**0.5


def batch_rows(parameters: int, tokens: int, row_length: int) -> int:
    """Rows of a step, a power of two."""
    best = 0.292 * (6.0 * parameters * tokens) ** 0.3271 / row_length
    return 1 << max(round(math.log2(best)), 0)


def turn(config: ConfigDict, num_layers: int) -> ConfigDict:
    """`config` of one pretrain stage at size `num_layers`."""
    model = shape(num_layers)
    parameters = num_parameters(model, config.tokenizer.vocab_size)
    tokens = 20 * parameters
    rows = batch_rows(parameters, tokens, config.data.row_length)
    num_steps = max(round(tokens / rows / config.data.row_length), 1)
    often = max(num_steps // 10, 1)
    config.model.update(model)
    config.optimizer.update(
        {
            "learning_rate": learning_rate(model["model_dim"]),
            "warmup_steps": min(num_steps // 10, 100),
        }
    )
    config.train.update(
        {
            "num_steps": num_steps,
            "batch_size": rows,
            "num_microbatches": max(rows // 64, 1),
        }
    )
    config.eval.update({"eval_every": often, "sample_every": often})
    config.checkpoint.save_every = often
    return config
