"""The life: from raw text to a model that writes, on data that every Python carries.

make life        (or: genlm run experiments/life.py --workdir runs/life)
"""

from ml_collections import ConfigDict

from experiments import base

PROMPTS = ("Return a list of", "The following", "If the argument is", "class ", "")


def get_config(arg: str = "") -> ConfigDict:
    """Prepare, pre-train, evaluate; each stage in its own folder of the workdir."""
    pretrain = base.pretrain("mini")
    pretrain.tokenizer.kind = "bpe"
    pretrain.eval.prompts = PROMPTS
    if base.argument(arg, "smoke"):
        base.smoke(pretrain)
    prepare = ConfigDict(
        {
            "stage": "prepare",
            "seed": pretrain.seed,
            "tokenizer": pretrain.tokenizer.to_dict(),
            "data": pretrain.data.to_dict(),
        }
    )
    evaluate = ConfigDict(
        {
            "stage": "evaluate",
            "seed": pretrain.seed,
            "source": "pretrain",
            "checkpoint": "best",
            "order": 5,
            "data": {"prepared": "prepare"},
            "eval": pretrain.eval.to_dict(),
        }
    )
    pretrain.data = ConfigDict({"prepared": "prepare"})
    del pretrain.tokenizer
    return ConfigDict(
        {
            "stages": ("prepare", "pretrain", "evaluate"),
            "prepare": prepare,
            "pretrain": pretrain,
            "evaluate": evaluate,
        }
    )
