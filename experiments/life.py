"""The life: from raw text to a model that writes, on data that every Python carries.

  make life        (or: genlm run experiments/life.py --workdir runs/life)

Hardware and time: two CPU cores, 11 minutes (3,000 steps of 4 rows of 256, then 1,500
on questions and answers; of 200 new ones it gets 16.5 % right, 11.5 to 22.0, and stops
by itself after each; then alignment, some 4 minutes). The reward model agrees with
75.3 % of held-out preferences (72.6 to 77.8); dpo takes the margin from 0 to 0.21 and
the text's bits a byte from 2.874 to 2.907; by reward alone held-out sums go from 11 %
to 38 % right, and the text to 3.099, as it was not read again.
Result, measured on Python 3.11: 1.462 bits a byte on held-out text, the mean of seeds
0, 1, 2 (1.457, 1.458, 1.472), beside 1.554 for a 5-gram over the same tokens, 1.762 for
xz given the training text, and 1.899 for a byte 5-gram. With AdamW in place of Muon
1.663 (1.665, 1.656, 1.668). On several devices batch_size must divide over them:
  --config.pretrain.train.batch_size=8
"""

from ml_collections import ConfigDict

from experiments import alignment, base

QUESTIONS = ("What is 17 + 25?", "What does str.upper do?", "Reverse the word list.")
ROW_OF_SMOKE = 128  # tokens: a conversation must fit
PROMPTS = ("Return a list of", "The following", "If the argument is", "class ", "")


def get_config(arg: str = "") -> ConfigDict:
    """Each stage in its own folder of the workdir; ':smoke' is two steps of each up to
    the exam, ':smoke-aligned' of all."""
    pretrain = base.pretrain("nano")
    pretrain.tokenizer.update({"kind": "bpe", "vocab_size": 2048})
    heads = {"num_heads": 2, "num_kv_heads": 2, "head_dim": 64}
    pretrain.model.update({**heads, "dtype": "bfloat16"})
    pretrain.optimizer.update(
        {"name": "muon", "learning_rate": 5e-3, "beta2": 0.98, "final_rate": 0.02}
    )
    pretrain.train.update({"num_steps": 3000, "batch_size": 4})
    pretrain.eval.update({"eval_every": 1000, "sample_every": 500, "prompts": PROMPTS})
    pretrain.checkpoint.save_every = 500
    is_smoke = bool(base.argument(arg, "smoke", "smoke-aligned"))
    if is_smoke:
        base.smoke(pretrain)
        pretrain.data.row_length = ROW_OF_SMOKE
    prepare = ConfigDict(
        {
            "stage": "prepare",
            "seed": pretrain.seed,
            "tokenizer": pretrain.tokenizer.to_dict(),
            "data": pretrain.data.to_dict(),
        }
    )
    evaluate = _evaluation(pretrain, "pretrain", "prepare", ())
    evaluate.order = 2 if is_smoke else 5
    sft = _sft(is_smoke)
    exam = _exam(sft, "sft", is_smoke)
    pretrain.data = base.of_prepared("prepare")
    del pretrain.tokenizer
    stages = {
        "prepare": prepare,
        "pretrain": pretrain,
        "evaluate": evaluate,
        "sft": sft,
        "exam": exam,
    }
    if arg != "smoke":
        stages |= _aligned(is_smoke)
        stages["final"] = _exam(sft, "grpo", is_smoke)
    return ConfigDict({"stages": tuple(stages), **stages})


def _evaluation(
    of: ConfigDict, source: str, prepared: str, tasks: tuple[str, ...]
) -> ConfigDict:
    """The stage `source`, whose recipe is `of`, on held-out text and on tasks."""
    on_the_way = ("eval_every", "max_rows", "sample_every")
    return ConfigDict(
        {
            "stage": "evaluate",
            "seed": of.seed,
            "source": source,
            "checkpoint": "last",  # the best was picked by the text it is scored on
            "order": 5,
            "data": {"prepared": prepared},
            "eval": {k: v for k, v in of.eval.items() if k not in on_the_way},
            "tasks": {"names": tasks, "data": "", "limit": 0, "run_code": False},
        }
    )


def _exam(sft: ConfigDict, source: str, is_smoke: bool) -> ConfigDict:
    """Of a stage whose model answers: new questions, what it refuses, and the text it
    has read once."""
    exam = _evaluation(sft, source, "prepare", ("questions", "safety"))
    exam.tasks.limit = 8 if is_smoke else 200
    exam.order = 0
    if is_smoke:
        exam.data.prepared = ""
    return exam


def _aligned(is_smoke: bool) -> dict[str, ConfigDict]:
    """A reward model and, by the same preferences, a policy; which then learns sums by
    reward alone."""
    stages = {"reward": alignment.reward("sft"), "dpo": alignment.dpo("sft")}
    for config in stages.values():
        config.data.row_length = 128
        config.model.dtype = "bfloat16"
        config.train.update({"num_steps": 200, "batch_size": 8})
        config.eval.update({"eval_every": 100, "batch_size": 16})
        config.checkpoint.save_every = 100
        if is_smoke:
            base.smoke_training(config)
            config.data.update({"row_length": 256, "valid_fraction": 0.001})
            config.eval.batch_size = 8
    stages["reward"].optimizer.learning_rate = 2e-4
    stages["dpo"].optimizer.learning_rate = 2e-5
    stages["grpo"] = alignment.sums("grpo", "dpo")
    stages["grpo"].train.num_steps = 300
    if is_smoke:
        alignment.smoke(stages["grpo"])
    return stages


def _sft(is_smoke: bool) -> ConfigDict:
    """The base model learns to answer, and to stop."""
    sft = base.finetune("pretrain")
    sft.data.template = "chatml"
    sft.model.dtype = "bfloat16"
    sft.optimizer.update({"name": "muon", "learning_rate": 2e-3, "beta2": 0.98})
    sft.train.update({"num_steps": 1500, "batch_size": 4})
    sft.eval.update({"eval_every": 500, "sample_every": 500, "prompts": QUESTIONS})
    sft.eval.update({"max_tokens": 48, "temperature": 0.0})
    sft.checkpoint.save_every = 500
    if is_smoke:
        base.smoke_training(sft)
        sft.data.row_length = ROW_OF_SMOKE
    return sft
