"""Prepare alone, for benchmarks.memory and benchmarks.input_pipeline.

  genlm run benchmarks/configs/prepare.py --workdir runs/prepared \
      --config.data.paths=book.txt --config.data.document=line
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """The data and tokenizer of pre-training, and no training."""
    base.argument(arg)
    whole = base.pretrain()
    config = ConfigDict({key: whole[key] for key in ("seed", "data", "tokenizer")})
    config.stage = "prepare"
    return config
