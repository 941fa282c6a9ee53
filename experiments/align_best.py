"""Rejection sampling: a model learns from the best of its own answers.

  genlm run experiments/align_best.py --workdir runs/best \
      --config.best_of.source=runs/life/sft --config.sft.source=runs/life/sft

The life's fine-tuned model answers sums of two numbers eight times each; of the answers
that are right one is kept, and it is fine-tuned on those. ':smoke' begins with a tiny
model that knows nothing, and keeps any answer. Planned, not run.
"""

from ml_collections import ConfigDict

from experiments import alignment, base, life


def get_config(arg: str = "") -> ConfigDict:
    """Draw and choose, then learn."""
    is_smoke = bool(base.argument(arg, "smoke"))
    best_of, sft = alignment.best_of(), base.finetune()
    best_of.best_of.prompts = 2048
    sft.data.update({"paths": "best_of/answers.jsonl", "row_length": 256})
    sft.optimizer.learning_rate = 2e-4
    sft.train.num_steps = 200
    sft.eval.update({"eval_every": 100, "sample_every": 100})
    sft.eval.update({"prompts": ("What is 17 + 25?",), "max_tokens": 16})
    sft.checkpoint.save_every = 100
    stages = {"best_of": best_of, "sft": sft}
    if is_smoke:
        whole = life.get_config("smoke")
        before = {name: whole[name] for name in ("prepare", "pretrain")}
        base.smoke_training(sft)
        sft.data.row_length = 128
        best_of.rollout.update({"answers": 2, "max_tokens": 64})
        best_of.reward.graders = ("length:0",)
        best_of.reward.unfinished = 0.0
        best_of.best_of.update({"prompts": 32, "batch_size": 8, "least": 0.0})
        best_of.source = sft.source = "chat"
        stages = {**before, "chat": whole.sft, **stages}
    return ConfigDict({"stages": tuple(stages), **stages})
