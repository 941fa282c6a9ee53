"""The parent of alignment recipes: reward models, direct preference, policies.

Not run by itself; see experiments/base.py.
"""

from ml_collections import ConfigDict

from experiments import base


def preferences(source: str = "") -> ConfigDict:
    """What the configs of reward and dpo share: the run `source`, all of its
    parameters, and rows of answers side by side."""
    config = base.finetune(source)
    config.data = ConfigDict(
        {
            "paths": "embedded:preferences",
            "valid_paths": "",
            "form": "auto",
            "strict": False,
            "valid_fraction": 0.1,
            "row_length": 1024,
            "template": "model",
            "answers": 4,
            "prepared": "",
        }
    )
    config.optimizer.learning_rate = 2e-5
    config.eval.max_rows = 0
    config.guard.spike = 0.0
    return config


def reward(source: str = "") -> ConfigDict:
    """A config of the reward stage."""
    config = preferences(source)
    config.stage = "reward"
    config.reward = ConfigDict({"margin": 0.0, "centre": 0.01})
    no_text = ("vocab_chunk", "z_loss", "balance_loss", "router_z_loss")
    config.train = ConfigDict(
        {k: v for k, v in config.train.items() if k not in no_text}
    )
    config.eval = ConfigDict({k: config.eval[k] for k in ("eval_every", "batch_size")})
    config.checkpoint = ConfigDict(
        {k: v for k, v in config.checkpoint.items() if k != "export_every"}
    )
    return config


def dpo(source: str = "") -> ConfigDict:
    """A config of the dpo stage."""
    config = preferences(source)
    config.stage = "dpo"
    config.dpo = ConfigDict(
        {
            "kind": "dpo",
            "beta": 0.1,
            "smoothing": 0.0,
            "gamma": 0.5,
            "good": 1.0,
            "bad": 1.0,
        }
    )
    return config


def grpo(source: str = "") -> ConfigDict:
    """A config of the grpo stage: the run `source` learns by its answers' rewards, as
    RLOO has it, all of its parameters."""
    tuned = base.finetune(source)
    no_text = ("prompts", "chat", "temperature", "top_p")
    config = ConfigDict(
        {
            "stage": "grpo",
            "seed": 0,
            "source": source,
            "data": {
                "paths": "embedded:sums",
                "form": "auto",
                "strict": False,
                "valid_fraction": 0.1,
            },
            "rollout": {
                "answers": 8,
                "slots": 64,
                "max_tokens": 16,
                "temperature": 1.0,
                "epochs": 1,
                "minibatches": 1,
            },
            "policy": {
                "ratio": "token",
                "clip_low": 0.2,
                "clip_high": 0.2,
                "average": "sum",
                "kl": "none",
                "estimator": "k2",
                "beta": 0.0,
                "target": 0.0,
                "entropy": 0.0,
                "baseline": "leave_one_out",
                "scale": "none",
            },
            "reward": {
                "graders": ("exact:1",),
                "models": (),
                "doubt": 0.0,
                "unfinished": 0.0,
                "run_code": False,
            },
            "lora": tuned.lora.to_dict(),
            "eval": {k: v for k, v in tuned.eval.items() if k not in no_text},
            **{
                name: tuned[name].to_dict()
                for name in (
                    "model",
                    "parallel",
                    "optimizer",
                    "train",
                    "checkpoint",
                    "guard",
                )
            },
        }
    )
    config.guard.spike = 0.0  # a policy's loss says nothing of how it fares
    config.checkpoint.keep_best = False
    return config


def ppo(source: str = "") -> ConfigDict:
    """A config of the ppo stage, with a critic."""
    config = grpo(source)
    config.stage = "ppo"
    config.rollout.update({"answers": 1, "epochs": 2, "minibatches": 4})
    config.policy.update({"average": "token", "baseline": "none"})
    config.critic = ConfigDict(
        {"discount": 1.0, "decay": 0.95, "clip": 0.2, "share": 0.5, "whiten": True}
    )
    return config


def sums(stage: str, source: str = "") -> ConfigDict:
    """A config of grpo, ppo or online_dpo in which a model as small as the life's
    learns to add."""
    config = {"grpo": grpo, "ppo": ppo, "online_dpo": online_dpo}[stage](source)
    config.model.dtype = "bfloat16"
    config.rollout.update({"slots": 32, "max_tokens": 6})
    config.reward.graders = ("exact:1", "near:1")
    config.train.update({"num_steps": 600, "batch_size": 16})
    config.rollout.answers = 16
    config.optimizer.update(
        {"learning_rate": 5e-4, "warmup_steps": 5, "schedule": "constant"}
    )
    if stage == "grpo":
        config.policy.update({"kl": "loss", "beta": 0.05})
    if stage == "ppo":  # eight updates a round
        config.policy.update({"kl": "reward", "estimator": "k1", "beta": 0.05})
        config.rollout.answers = 4
        config.train.update({"num_steps": 200, "batch_size": 64})
        config.optimizer.learning_rate = 3e-4
    config.eval.update(
        {"eval_every": 50, "sample_every": 50, "batch_size": 64, "max_rows": 256}
    )
    config.checkpoint.save_every = 100
    return config


def smoke(config: ConfigDict) -> ConfigDict:
    """A config of grpo or ppo shrunk to two rounds of a few answers."""
    config.rollout.update({"answers": 4, "slots": 64, "max_tokens": 4})
    config.train.update({"num_steps": 2, "batch_size": 8, "log_every": 1})
    config.eval.update({"batch_size": 8, "max_rows": 8})
    config.checkpoint.save_every = 1
    return config


def online_dpo(source: str = "") -> ConfigDict:
    """A config of the online_dpo stage."""
    config = grpo(source)
    config.stage = "online_dpo"
    config.rollout.answers = 4
    del config.policy
    config.online = ConfigDict({"beta": 0.1})
    return config


def best_of(source: str = "") -> ConfigDict:
    """A config of the best_of stage."""
    config = grpo(source)
    rollout = ("answers", "slots", "max_tokens", "temperature")
    return ConfigDict(
        {
            "stage": "best_of",
            "seed": 0,
            "source": source,
            "data": config.data,
            "rollout": {name: config.rollout[name] for name in rollout},
            "reward": config.reward,
            "best_of": {"prompts": 0, "batch_size": 16, "least": 1.0},
        }
    )
