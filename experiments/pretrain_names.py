"""Pre-train on names, one a line: the smallest real run.

  genlm run experiments/pretrain_names.py --workdir runs/names \
      --config.data.paths=public:names

That downloads 32,033 names once; names.txt in its place would be a file of yours.
Hardware and time: one CPU core of two, 1 min 47 s (1,000 steps of 32 rows of 64).
Result, measured once, seed 0, on that file: 2.00 nats a byte held out, 1.93 in
training; it writes «marline», «carrin», «alyana».
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """A 2-layer byte model; each line is a document, packed into rows of 64. Until
    data.paths is given, of the embedded corpus."""
    config = base.pretrain("nano")
    config.model.num_layers = 2
    config.data.update({"document": "line", "row_length": 64})
    config.train.update({"num_steps": 1000, "batch_size": 32})
    config.optimizer.learning_rate = 3e-3
    config.eval.update({"max_tokens": 24, "prompts": ("", "", "", "", "")})
    return base.smoke(config) if base.argument(arg, "smoke") else config
