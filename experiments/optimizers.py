"""Muon beside AdamW, and warm-up-stable-decay beside a cosine, at equal tokens.

  genlm run experiments/optimizers.py --workdir runs/adamw
  genlm sweep experiments/optimizers.py --workdir runs/optimizers --seeds 0,1,2 \
      --vary optimizer.name=adamw,muon
  genlm sweep experiments/optimizers.py --workdir runs/schedules --seeds 0,1,2 \
      --vary optimizer.schedule=cosine,wsd

The model, text and steps of experiments/life.py's training, and its learning rate.
Hardware and time: two CPU cores, about two minutes a run. Result: planned, not run.
"""

from ml_collections import ConfigDict

from experiments import base, life


def get_config(arg: str = "") -> ConfigDict:
    """The life's training as a run of its own; ':smoke' shrinks it."""
    arg = base.argument(arg, "smoke")
    whole = life.get_config(arg)
    config = whole.pretrain
    config.data = whole.prepare.data
    config.tokenizer = whole.prepare.tokenizer
    config.eval.sample_every = 0
    return config
