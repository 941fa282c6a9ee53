"""Memory: the peak of prepare on 200 MB of text, and what 5,000 steps add."""

import argparse
from pathlib import Path
from statistics import mean
import sys
import tempfile
import time
from typing import Iterator

from benchmarks import command, table, texts
from benchmarks.table import Row
from genlm.runs import metrics

TEXT_BYTES = 200_000_000
PEAK_MB = 700.0  # the goal
NUM_STEPS = 5000


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Prepare with either kind of document (--full: and of tokenizer), then train."""
    kinds = [("line", "byte"), ("file", "byte")]
    if arguments.full:
        kinds += [("line", "bpe"), ("file", "bpe")]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        texts.write_prose(text, TEXT_BYTES)
        for document, kind in kinds:
            yield from prepare(
                text, document, kind, Path(folder) / f"{document}-{kind}"
            )
    with tempfile.TemporaryDirectory() as folder:
        yield train(Path(folder))


def prepare(text: Path, document: str, kind: str, workdir: Path) -> Iterator[Row]:
    """The peak beside its goal, and the speed."""
    begun = time.monotonic()
    process = command.genlm(
        "run",
        "benchmarks/configs/prepare.py",
        f"--workdir={workdir}",
        f"--config.data.paths={text}",
        f"--config.data.document={document}",
        f"--config.tokenizer.kind={kind}",
    )
    peak = command.peak_mb(process)
    speed = text.stat().st_size / 1e6 / (time.monotonic() - begun)
    name = f"prepare 200 MB, document={document}, {kind}"
    yield Row(f"{name}: peak beside its goal", peak, "MB", PEAK_MB, PEAK_MB / peak)
    yield Row(f"{name}: speed", speed, "MB/s")


def train(folder: Path) -> Row:
    """What a tiny model's training holds late in a run beside early in it."""
    names = folder / "names.txt"
    texts.write_names(names, 5000)
    process = command.genlm(
        "run",
        "experiments/pretrain_names.py:smoke",
        f"--workdir={folder / 'run'}",
        f"--config.data.paths={names}",
        f"--config.train.num_steps={NUM_STEPS}",
        "--config.train.log_every=10",
        "--config.checkpoint.save_every=500",
        "--config.eval.eval_every=500",
        "--config.eval.sample_every=500",
    )
    command.finish(process)
    rows = metrics.read(folder / "run" / "metrics.jsonl")
    held = {r["step"]: r["memory_mb"] for r in rows if "memory_mb" in r}
    early = mean(mb for step, mb in held.items() if 500 <= step <= 1500)
    late = mean(mb for step, mb in held.items() if step > NUM_STEPS - 1000)
    name = "train 5,000 steps: the last 1,000 beside steps 500 to 1,500"
    return Row(name, late, "MB", early, early / late)


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
