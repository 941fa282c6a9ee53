"""Pre-train on any text of yours.

  genlm run experiments/pretrain_text.py --workdir runs/text \
      --config.data.paths='books/*.txt' --config.data.document=file

Hardware and time: two CPU cores, planned, not run to its end: 4 layers of 256, 1,000
steps of 16 rows of 256 tokens, at about 4,300 tokens a second 16 minutes.

`:size=N` turns the dial (experiments/dial.py). Planned, not run:
  size   parameters   tokens   steps   rows a step   learning rate
     2       0.66 M     13 M   1,620            32         2.7e-3
     4        3.7 M     75 M   2,280           128         1.9e-3
     8         26 M    527 M   4,020           512         1.3e-3
    12         87 M    1.7 B   6,600         1,024         1.1e-3
    24        683 M     14 B  13,020         4,096         7.7e-4
"""

from ml_collections import ConfigDict

from experiments import base, dial


def get_config(arg: str = "") -> ConfigDict:
    """A 4-layer model of subwords; the embedded corpus until data.paths is given."""
    config = base.pretrain("mini")
    config.tokenizer.kind = "bpe"
    arg, size = dial.argument(arg, "smoke")
    if size:
        return dial.turn(config, size)
    return base.smoke(config) if arg else config
