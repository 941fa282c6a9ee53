"""Any run's model learns to answer, from any file of conversations.

  genlm run experiments/instruct.py --workdir runs/instruct \
      --config.source=runs/life/pretrain --config.data.paths=conversations.jsonl

The shapes that conversations come in are in docs/tuning.md; without data.paths they are
questions of the Python installation. A model that was trained on text alone gets the
tokens of a chat; one that was made for conversations keeps its own template with
--config.data.template=model. --config.lora.rank=8 trains a low-rank change in place of
all parameters. ':smoke' pre-trains a model of two steps first. Two minutes on two CPU
cores for the life's model (experiments/life.py has the same stage, and its figures).
"""

from ml_collections import ConfigDict

from experiments import base, life


def get_config(arg: str = "") -> ConfigDict:
    """One stage, of the run that `source` names."""
    if base.argument(arg, "smoke"):
        whole = life.get_config(arg)
        stages = ("prepare", "pretrain", "sft")
        return ConfigDict({"stages": stages, **{name: whole[name] for name in stages}})
    sft = life.get_config().sft
    sft.source = "runs/life/pretrain"
    return sft
