"""TRL'S SIDE of align: python -m benchmarks.align_trl FOLDER.

TRL's GRPOTrainer on transformers' LlamaForCausalLM, as its own loop runs it, in
float32, with the trainer's reports left out. The loop waits before each step until it
is told to go on.
"""

import json
import os
from pathlib import Path
import queue
import sys
import tempfile
import threading
from typing import Any

from datasets import Dataset
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks import pairs, train_torch
from benchmarks.align import (
    ANSWERS,
    LEARNING_RATE,
    PROMPTS,
    TOKENS,
    UNFINISHED,
    reward,
)


class Turns(TrainerCallback):
    """Holds the trainer's loop before each step; `ended` gets a word after it."""

    def __init__(self) -> None:
        self.go: queue.Queue[None] = queue.Queue()
        self.ended: queue.Queue[None] = queue.Queue()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.go.get()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended.put(None)


def main(folder: Path) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as out:
        pairs.serve(
            {"one update a round": lambda: make_step(folder, out)},
            train_torch.make_product("float32"),
        )


def make_step(folder: Path, out: str) -> pairs.Step:
    """A round; what it returns is the mean number of tokens of an answer."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "hf")
    asked = json.loads((folder / "prompts.json").read_text())
    if any(tokenizer(row["prompt"])["input_ids"] != row["ids"] for row in asked):
        raise ValueError("the tokenizer gives other ids")

    def rewards(completions: list, completion_ids: list, **_: Any) -> list[float]:
        return [
            reward(text) if ids[-1] == tokenizer.eos_token_id else UNFINISHED
            for text, ids in zip(completions, completion_ids)
        ]

    turns = Turns()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32),
        reward_funcs=rewards,
        args=GRPOConfig(
            output_dir=out,
            max_steps=10**6,
            per_device_train_batch_size=PROMPTS * ANSWERS,
            num_generations=ANSWERS,
            max_completion_length=TOKENS,
            temperature=1.0,
            shuffle_dataset=False,
            loss_type="bnpo",
            scale_rewards="group",
            beta=0.0,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in asked]),
        processing_class=tokenizer,
        callbacks=[turns],
    )
    threading.Thread(target=trainer.train, daemon=True).start()

    def step() -> float:
        turns.go.put(None)
        turns.ended.get()
        return trainer._metrics["train"]["completions/mean_length"][-1]

    return step


if __name__ == "__main__":
    main(Path(sys.argv[1]))
