"""The parent of pre-training recipes: every key that the stages read, with a value.

Not run by itself. A recipe calls `pretrain()`, changes what is its own, and returns it.
"""

from ml_collections import ConfigDict

from genlm.model.sizes import HOW, SIZES


def pretrain(size: str = "nano") -> ConfigDict:
    """A config of the pretrain stage on the embedded corpus."""
    return ConfigDict(
        {
            "stage": "pretrain",
            "seed": 0,
            "source": "",
            "tokenizer": {
                "kind": "byte",
                "vocab_size": 2048,
                "sample_bytes": 10**7,
                "source": "",
            },
            "data": {
                "paths": "embedded:python",
                "document": "file",
                "clean": True,
                "dedup": True,
                "valid_fraction": 0.1,
                "row_length": 256,
                "prepared": "",
                "replay": "",
                "replay_share": 0.0,
            },
            "model": {
                **SIZES[size],
                "activation": "swiglu",
                "norm": "rms",
                "norm_eps": 1e-5,
                "unit_offset": False,
                "post_norms": False,
                "use_bias": False,
                "qkv_bias": False,
                "qk_norm": False,
                "tie_embeddings": True,
                "embedding_scale": 1.0,
                "dropout": 0.0,
                "embedding_noise": 0.0,
                "positions": "rotary",
                "rope_theta": 10_000.0,
                "rope_scaling": "none",
                "rope_factor": 1.0,
                "rope_low": 1.0,
                "rope_high": 4.0,
                "rope_original_length": 0,
                "layer_pattern": "G",
                "window": 0,
                "rope_local_theta": 0.0,
                "attention_scale": 0.0,
                "attention_cap": 0.0,
                "logit_cap": 0.0,
                "num_experts": 0,
                "experts_per_token": 0,
                "normalize_experts": True,
                "expert_dispatch": "dense",
                "capacity_factor": 1.25,
                "mup_base_width": 0,
                "dtype": "float32",
                "scan_layers": False,
                "remat": "none",
            },
            "parallel": {
                "data": -1,
                "fsdp": 1,
                "expert": 1,
                "context": 1,
                "tensor": 1,
                "rules": (),
            },
            "optimizer": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "schedule": "cosine",
                "warmup_steps": 100,
                "final_rate": 0.1,
                "decay_fraction": 0.2,
                "num_cycles": 4,
                "beta1": 0.9,
                "beta2": 0.95,
                "momentum": 0.95,
                "epsilon": 1e-8,
                "weight_decay": 0.1,
                "clip_norm": 1.0,
                "rules": (),
            },
            "train": {
                "num_steps": 1000,
                "batch_size": 16,
                "num_microbatches": 1,
                "vocab_chunk": 0,
                "z_loss": 0.0,
                "balance_loss": 0.0,
                "router_z_loss": 0.0,
                "ema_decay": 0.0,
                "ramp_from": 0,
                "ramp_steps": 0,
                "log_every": 10,
                "probe_every": 0,
                "profile_steps": (0, 0),
                "watch": (),
            },
            "eval": {
                "eval_every": 250,
                "max_rows": 4096,
                "batch_size": 32,
                "sample_every": 250,
                "prompts": ("",),
                "chat": False,
                "max_tokens": 128,
                "temperature": 0.8,
                "top_p": 1.0,
            },
            "checkpoint": {
                "save_every": 250,
                "keep_last": 2,
                "keep_best": True,
                "keep_every": 0,
                "copy_to": "",
                "export_every": 0,
            },
            "guard": {
                "spike": 10.0,
                "max_rewinds": 0,
                "rewind_skips": 8,
                "max_nonfinite": 0,
                "stall_seconds": 600.0,
                "disk_seconds": 60.0,
            },
        }
    )


def of_prepared(stage: str) -> ConfigDict:
    """A section `data` that names an earlier stage."""
    return ConfigDict({"prepared": stage, "replay": "", "replay_share": 0.0})


def finetune(source: str = "") -> ConfigDict:
    """A config of a stage that fine-tunes the run `source`, all of its parameters."""
    whole = pretrain()
    same = ("parallel", "optimizer", "train", "eval", "checkpoint", "guard")
    config = ConfigDict(
        {
            "stage": "sft",
            "seed": 0,
            "source": source,
            "data": {
                "paths": "embedded:questions",
                "valid_paths": "",
                "form": "auto",
                "strict": False,
                "valid_fraction": 0.1,
                "row_length": 256,
                "template": "model",
                "prepared": "",
            },
            "lora": {
                "rank": 0,
                "alpha": 16.0,
                "targets": ("layers/*",),
                "rank_stabilised": False,
                "dropout": 0.0,
                "dora": False,
                "bits": 0,
            },
            "model": {name: whole.model[name] for name in HOW},
            **{name: whole[name].to_dict() for name in same},
        }
    )
    config.optimizer.update({"learning_rate": 1e-4, "weight_decay": 0.0})
    config.eval.update({"prompts": ("What is a list?",), "chat": True})
    return config


def embed(source: str = "") -> ConfigDict:
    """A config of a stage that makes the run `source` embed texts."""
    config = finetune(source)
    config.stage = "embed"
    config.data = ConfigDict(
        {
            "paths": "embedded:python",
            "passages": "",
            "query": "query",
            "passage": "passage",
            "group": "",
            "split": "hash",
            "valid_fraction": 0.1,
        }
    )
    config.embed = ConfigDict(
        {
            "pool": "mean",
            "sizes": (0,),
            "temperature": 0.05,
            "hard_negatives": 0,
            "query_length": 32,
            "passage_length": 128,
        }
    )
    config.eval.sample_every = 0
    return config


def classify(source: str = "") -> ConfigDict:
    """A config of the classify stage on what is embedded: a nano model from scratch,
    or, with `source`, all parameters of that run."""
    whole, tuned = pretrain(), finetune(source)
    no_text = ("vocab_chunk", "z_loss", "balance_loss", "router_z_loss")
    same = ("tokenizer", "model", "parallel", "optimizer", "guard")
    config = ConfigDict(
        {
            "stage": "classify",
            "seed": 0,
            "source": source,
            "data": {
                "paths": "embedded:kinds",
                "valid_paths": "",
                "text_field": "text",
                "label_field": "label",
                "valid_fraction": 0.1,
                "row_length": 256,
                "keep": "beginning",
                "prepared": "",
            },
            "head": {"pool": "mean", "class_weights": "none"},
            "lora": tuned.lora.to_dict(),
            "train": {k: v for k, v in whole.train.items() if k not in no_text},
            "eval": {
                name: whole.eval[name]
                for name in ("eval_every", "max_rows", "batch_size")
            },
            "checkpoint": {
                k: v for k, v in whole.checkpoint.items() if k != "export_every"
            },
            **{name: whole[name].to_dict() for name in same},
        }
    )
    if source:
        config.optimizer.update(tuned.optimizer)
    return config


def smoke(config: ConfigDict) -> ConfigDict:
    """`config` shrunk to two steps of a tiny model on a CPU."""
    config.model.update(SIZES["smoke"])
    config.tokenizer.vocab_size = min(config.tokenizer.vocab_size, 384)
    return smoke_training(config)


def smoke_training(config: ConfigDict) -> ConfigDict:
    """`config` shrunk to two steps, whatever its model."""
    config.data.row_length = 32
    config.train.update({"num_steps": 2, "batch_size": 8, "log_every": 1})
    config.eval.batch_size = 64
    if "max_tokens" in config.eval:
        config.eval.max_tokens = 8
    config.checkpoint.save_every = 1
    config.guard.disk_seconds = 0.0
    return config


def argument(arg: str, *known: str) -> str:
    """`arg`, checked to be one of `known` or nothing."""
    from genlm.errors import UserError

    if arg not in ("", *known):
        raise UserError(f"this config knows no argument {arg!r}; it knows: {known}")
    return arg
