"""Samples and updates a second of GRPO, beside TRL's GRPOTrainer on transformers.

A small Llama with random parameters, written as a Hugging Face folder that both sides
read; the same questions, so many answers to each, one update a round. A round is all of
it: answers are drawn, rewarded, and trained on.
"""

import argparse
import contextlib
import itertools
import json
from pathlib import Path
import sys
import tempfile
from typing import Iterator

from benchmarks import pairs, table
from benchmarks.pairs import Worker
from benchmarks.table import Row
from genlm.errors import UserError

# questions a round, answers to each, and the most tokens of a question and of an
# answer; answers and tokens are TRL's defaults
PROMPTS, ANSWERS, SLOTS, TOKENS = 2, 8, 32, 256
NUM_PROMPTS = 64
LEARNING_RATE = 1e-6  # so that answers stay as long as they were
UNFINISHED = -1.0
SHAPES = {"4x128": (4, 128), "6x384": (6, 384)}


def reward(text: str) -> float:
    """Of an answer that stopped by itself: the share of small letters."""
    return sum("a" <= each <= "z" for each in text) / TOKENS


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """One shape, or with --full both."""
    peer = pairs.peer(arguments.peer, ("torch", "transformers", "trl"))
    for name in SHAPES if arguments.full else ("4x128",):
        with tempfile.TemporaryDirectory() as folder:
            _prepare(Path(folder), *SHAPES[name])
            yield from _compare(f"GRPO, {name}", folder, peer is not None)


def _prepare(folder: Path, layers: int, width: int) -> None:
    """The model as a Hugging Face folder, and questions with their ids."""
    import jax

    from genlm.data import exercises
    from genlm.interop import exporting
    from genlm.interop.run import Opened
    from genlm.model import transformer
    from genlm.model.config import TransformerConfig
    from genlm.parallel import specs
    from genlm.tokenizer.byte import ByteTokenizer

    tokenizer = ByteTokenizer()
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        max_length=2 * (SLOTS + TOKENS),
        num_layers=layers,
        model_dim=width,
        num_heads=width // 32,
        num_kv_heads=width // 64,
        head_dim=32,
        mlp_dim=3 * width,
    )
    params = specs.initialize(transformer.param_specs(config), jax.random.key(0))
    exporting.write(Opened(params, config, tokenizer, 0), folder / "hf")
    sums = itertools.islice(exercises.two_digit_sums(), NUM_PROMPTS)
    texts = [question.text for question in sums]
    asked = [
        {"prompt": t, "ids": [tokenizer.special.bos, *t.encode("utf-8")]} for t in texts
    ]
    (folder / "prompts.json").write_text(json.dumps(asked))


def _compare(title: str, folder: str, has_peer: bool) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        names = ["benchmarks.align_genlm", *["benchmarks.align_trl"] * has_peer]
        workers = [stack.enter_context(Worker(name, folder)) for name in names]
        # of two rounds, in which chance has its part
        lengths = [sum(worker.losses) / 2 for worker in workers]
        if max(lengths) - min(lengths) > 0.4 * TOKENS:
            raise UserError(f"mean tokens of an answer differ: {lengths}")
        turns = pairs.take_turns([worker.go for worker in workers])
    for what, count in (("samples/s", PROMPTS * ANSWERS), ("updates/s", 1)):
        rates = [[count / turn.seconds for turn in side] for side in turns]
        yield pairs.row(title, what, *rates)


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
