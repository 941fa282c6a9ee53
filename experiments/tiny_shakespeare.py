"""Tiny Shakespeare, byte by byte, at the sizes that nanoGPT's README reports.

  genlm run experiments/tiny_shakespeare.py --workdir runs/shakespeare

The text is karpathy/char-rnn's data/tinyshakespeare/input.txt (1,115,394 bytes),
downloaded once; without a network, --config.data.paths=input.txt names a copy of it.
Its last tenth is held out in full. Two settings (https://github.com/karpathy/nanoGPT):
  (none)   4 layers of 128, rows of 64, batch 12, 2,000 steps, no dropout; the README
           there reports 1.88 nats. Measured: 1.689, 1.665, 1.684 with seeds 0, 1,
           2 (mean 1.679); 2 to 5 minutes each on one CPU core of two.
  :6x384   6 layers of 384, rows of 256, batch 64, 5,000 steps, dropout 0.2; the README
           there reports 1.47 nats. Measured, a tenth of it: 1.498 nats after 500
           steps with --config.model.dtype=bfloat16 --config.train.num_steps=500, in
           46 minutes on two CPU cores that did other work too (docs/shakespeare.svg).
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """The small setting, ':6x384', or ':smoke' (on the embedded corpus)."""
    arg = base.argument(arg, "smoke", "6x384")
    config = base.pretrain("small" if arg == "6x384" else "nano")
    config.data.update(
        {"paths": "public:tinyshakespeare", "clean": False, "row_length": 64}
    )
    config.train.update({"num_steps": 2000, "batch_size": 12, "log_every": 20})
    config.optimizer.update({"learning_rate": 3e-3, "beta2": 0.99})
    config.eval.update(
        {"eval_every": 500, "sample_every": 500, "prompts": ("\n",), "batch_size": 64}
    )
    config.checkpoint.save_every = 500
    if arg == "6x384":
        config.model.dropout = 0.2
        config.data.row_length = 256
        config.train.update(
            {"num_steps": 5000, "batch_size": 64, "num_microbatches": 16}
        )
        config.optimizer.learning_rate = 1e-3
    if arg == "smoke":
        base.smoke(config).data.paths = "embedded:python"
    return config
