"""The parent of recipes for TPU pods: bfloat16 products, one layer compiled for all.

Not run by itself. A recipe names a size and, for each kind of chip, the grid that it is
planned for with its mesh and batch.
"""

from ml_collections import ConfigDict

from experiments import base


def pod(size: str, arg: str, grids: dict[str, dict]) -> ConfigDict:
    """The recipe of a size for one of `grids`: rows, length and mesh."""
    arg = base.argument(arg, "smoke", *grids)
    config = base.pretrain(size)
    config.tokenizer.update({"kind": "bpe", "vocab_size": 32_768})
    config.model.update(
        {
            "dtype": "bfloat16",
            "scan_layers": True,
            "remat": "full",
            "tie_embeddings": False,
            "rope_theta": 500_000.0,
        }
    )
    config.optimizer.update({"learning_rate": 3e-4, "warmup_steps": 2000})
    config.train.update({"num_steps": 100_000, "z_loss": 1e-4})
    config.checkpoint.save_every = 1000
    config.eval.update({"eval_every": 1000, "sample_every": 1000})
    if arg == "smoke":
        return _smoke(config)
    grid = grids[arg or next(iter(grids))]
    config.data.row_length = grid["length"]
    config.train.batch_size = grid["rows"]
    config.eval.batch_size = grid["rows"]
    for axis in ("data", "fsdp", "expert", "context", "tensor"):
        config.parallel[axis] = grid.get(axis, 1)
    return config


def _smoke(config: ConfigDict) -> ConfigDict:
    base.smoke(config)
    config.tokenizer.kind = "byte"
    config.optimizer.warmup_steps = 1
    return config
