"""PEFT'S SIDE of tune: python -m benchmarks.tune_peft FOLDER DTYPE.

transformers' LlamaForCausalLM with PEFT's LoRA in every linear layer of its blocks and
fused AdamW; 'bfloat16' is autocast. Rows are padded on the right to the longest of a
microbatch, and sorted by length before.
"""

import functools
import json
import os
from pathlib import Path
import sys

from peft import LoraConfig, get_peft_model
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from benchmarks import pairs, train_torch
from benchmarks.tune import RANK

TARGETS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()


def main(folder: Path, dtype: str) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    conversations = json.loads((folder / "conversations.json").read_text())
    makers = {
        f"{n} rows at a time": functools.partial(
            make_step, folder, dtype, conversations, n
        )
        for n in (1, 4)
    }
    pairs.serve(makers, train_torch.make_product(dtype))


def make_step(folder: Path, dtype: str, conversations: list, rows: int) -> pairs.Step:
    """Forward, backward, clipping and AdamW on the batch."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32)
    change = LoraConfig(r=RANK, lora_alpha=16, target_modules=TARGETS)
    model = get_peft_model(base, change)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    ordered = sorted(conversations, key=lambda pair: len(pair[0]))
    parts = [padded(ordered[at : at + rows]) for at in range(0, len(ordered), rows)]
    weight = sum(sum(is_trained[1:]) for _, is_trained in conversations)

    def step() -> float:
        optimizer.zero_grad()
        total = 0.0
        for ids, mask, labels in parts:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                found = model(input_ids=ids, attention_mask=mask, use_cache=False)
            logits = found.logits[:, :-1].float().flatten(0, 1)
            loss = functional.cross_entropy(
                logits, labels[:, 1:].flatten(), reduction="sum"
            )
            (loss / weight).backward()
            total += loss.item() / weight
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return total

    return step


def padded(pairs_: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, attention mask, and labels, -100 where nothing is trained on."""
    longest = max(len(ids) for ids, _ in pairs_)
    ids = torch.zeros(len(pairs_), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (tokens, trained) in enumerate(pairs_):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        where = torch.tensor(trained, dtype=torch.bool)
        labels[row, : len(tokens)][where] = torch.tensor(tokens)[where]
    return ids, mask, labels


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
