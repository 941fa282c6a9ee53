"""Pre-train on any text of yours.

  genlm run experiments/pretrain_text.py --workdir runs/text \
      --config.data.paths='books/*.txt,notes.jsonl' --config.data.document=file
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(arg: str = "") -> ConfigDict:
    """A 4-layer model of subwords; the embedded corpus until data.paths is given."""
    config = base.pretrain("mini")
    config.tokenizer.kind = "bpe"
    return base.smoke(config) if base.argument(arg, "smoke") else config
