"""Pre-train on any text of yours.

  genlm run experiments/pretrain_text.py --workdir runs/text \
      --config.data.paths='books/*.txt' --config.data.document=file

Hardware and time: two CPU cores, planned, not run to its end: 4 layers of 256, 1,000
steps of 16 rows of 256 tokens, at about 4,300 tokens a second 16 minutes.
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
