"""Writes smollm2_reference.json: what transformers makes of SmolLM2's GGUF file.

    python -m tests.golden.smollm2_reference FOLDER

FOLDER holds pretrain/books. Kept are the mean negative log-likelihood of the first
tokens of a novel, in nats, and the likeliest tokens after a few prompts.
"""

import json
from pathlib import Path
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tests.golden.smollm2_encodings import FILE, package, tokenizer

NOVEL = "pretrain/books/Austen_Pride.txt"
LENGTH = 700  # tokens of the novel
PROMPTS = ("The capital of France is", "def fibonacci(n):", "Once upon a time")
ANSWER = 24  # tokens


def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(
        package(), gguf_file=FILE, dtype=torch.float32
    ).eval()


def greedy(reference: Any, ids: list[int]) -> list[int]:
    """The ANSWER likeliest tokens after `ids`, one after the other."""
    rows = torch.tensor([ids])
    with torch.no_grad():
        answer = reference.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            do_sample=False,
            max_new_tokens=ANSWER,
        )
    return answer[0, len(ids) :].tolist()


def nats(reference: Any, ids: list[int]) -> float:
    """The mean negative log-likelihood of each id but the first."""
    rows = torch.tensor([ids])
    with torch.no_grad():
        return float(reference(rows, labels=rows).loss)


def main(folder: Path) -> None:
    reference, encode = model(), tokenizer().encode
    ids = encode((folder / NOVEL).read_text("utf-8")[: 20 * LENGTH]).ids[:LENGTH]
    answers = {prompt: greedy(reference, encode(prompt).ids) for prompt in PROMPTS}
    found = {
        "novel": NOVEL,
        "tokens": ids,
        "nats": round(nats(reference, ids), 5),
        "answers": answers,
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(found) + "\n", "utf-8")
    print(f"{path}: {found['nats']} nats")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
