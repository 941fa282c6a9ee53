"""Pre-train on names, one a line: the smallest real run.

  genlm run experiments/pretrain_names.py --workdir runs/names \
      --config.data.paths=names.txt

Hardware and time: two CPU cores, planned, not run to its end: 1,000 steps of 32 rows
of 64 bytes. Measured after 300 steps on 29,494 English first names (0.6 minutes):
2.09 nats a byte held out.
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """A 2-layer byte model; each name is a document, packed into rows of 64."""
    config = base.pretrain("nano")
    config.model.num_layers = 2
    config.data.update({"document": "line", "row_length": 64})
    config.train.update({"num_steps": 1000, "batch_size": 32})
    config.optimizer.learning_rate = 3e-3
    config.eval.update({"max_tokens": 24, "prompts": ("", "", "", "", "")})
    return base.smoke(config) if base.argument(arg, "smoke") else config
