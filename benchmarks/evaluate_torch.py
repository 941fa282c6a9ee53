"""LM-EVAL on transformers, in a process of its own: what the answers to our tasks are
to the reference harness.

    python -m benchmarks.evaluate_torch MODEL DATA OUT [LIMIT]

MODEL is a Hugging Face folder, DATA the folder of the JSON lines. OUT gets, a task
each, {"seconds", "rows": [{"logprobs", "accuracy", "accuracy_normalised"}]}.
"""

import json
from pathlib import Path
import sys
import tempfile
import time
from typing import Any

_CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
# lm-eval's own definitions, over local files whose fields have other names.
TASKS: dict[str, dict[str, Any]] = {
    "arc_easy": {"doc_to_text": "{{query}}\nAnswer:", **_CHOICES},
    "piqa": {"doc_to_text": "{{query}}Answer:", **_CHOICES},
    "lambada_openai": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + continuation}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "blimp": {
        **_CHOICES,
        "doc_to_text": "",
        "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    },
}


def write_tasks(folder: Path, data: Path) -> None:
    """Write a file of lm-eval for each task; `data` holds the JSON lines."""
    for name, task in TASKS.items():
        local = {
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data / f"{name}.jsonl")}},
            "test_split": "test",
            **task,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(local, indent=2))


def measure(model: Any, folder: Path, name: str, limit: int | None) -> dict[str, Any]:
    """What lm-eval finds on a task, row by row."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    begun = time.monotonic()
    found = simple_evaluate(
        model=model,
        tasks=[f"local_{name}"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        limit=limit,
        log_samples=True,
        bootstrap_iters=0,
        random_seed=None,
    )
    rows = []
    for sample in sorted(found["samples"][f"local_{name}"], key=lambda s: s["doc_id"]):
        rows.append(
            {
                "logprobs": [float(r[0]) for r in sample["filtered_resps"]],
                "accuracy": sample["acc"],
                "accuracy_normalised": sample.get("acc_norm"),
            }
        )
    return {"seconds": time.monotonic() - begun, "rows": rows}


def main(model: str, data: str, out: str, limit: str = "") -> None:
    from lm_eval.models.huggingface import HFLM

    held = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=16)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder), Path(data))
        for name in TASKS:
            found[name] = measure(
                held, Path(folder), name, int(limit) if limit else None
            )
            Path(out).write_text(json.dumps(found))
            print(
                f"{name}: {found[name]['seconds']:.0f} s", file=sys.stderr, flush=True
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
