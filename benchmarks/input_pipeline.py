"""Tokens a second of the input pipeline, beside what the train step eats."""

import argparse
import itertools
from pathlib import Path
import sys
import tempfile
import time
from typing import Callable, Iterator

from benchmarks import command, pairs, table, texts
from benchmarks.pairs import Worker
from benchmarks.shapes import SHAPES, Shape
from benchmarks.table import Row
from genlm.data import rows, shards
from genlm.data.ahead import Ahead
from genlm.data.batches import TrainBatches
from genlm.data.plan import Plan

READ_AHEAD = 16  # batches that threads may have made before the clock starts
DTYPE = "bfloat16"


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Names and long documents, in rows of 64 and of 256."""
    del arguments
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts.write_names(folder / "names.txt", 200_000)
        texts.write_prose(folder / "prose.txt", 4_000_000)
        for shape_name in ("4x128", "6x384"):
            with Worker("benchmarks.train_genlm", shape_name, DTYPE) as worker:
                for text, document in (("names", "line"), ("prose", "file")):
                    yield beside_step(
                        folder, text, document, SHAPES[shape_name], worker
                    )


def beside_step(
    folder: Path, text: str, document: str, shape: Shape, worker: Worker
) -> Row:
    read = reader(prepared(folder, text, document, shape.length), shape)
    sides = (read, lambda: shape.tokens / worker.go().seconds)
    name = f"{text}, rows of {shape.length}, beside the step of {shape.name} {DTYPE}"
    return pairs.row(name, "tokens/s", *pairs.take_turns(sides))


def prepared(folder: Path, text: str, document: str, row_length: int) -> Path:
    """The training split of folder/text.txt."""
    workdir = folder / f"{text}-{row_length}"
    process = command.genlm(
        "run",
        "benchmarks/configs/prepare.py",
        f"--workdir={workdir}",
        f"--config.data.paths={folder / text}.txt",
        f"--config.data.document={document}",
        f"--config.data.row_length={row_length}",
    )
    command.finish(process)
    return workdir / "tokens" / "train"


def reader(split: Path, shape: Shape) -> Callable[[], float]:
    """A function that reads for a while: tokens a second."""
    data = TrainBatches(
        shards.Tokens(split), rows.load(split), Plan(shape.batch), seed=0, pad=0
    )
    batches = Ahead(data.since, 0, 0.0, lambda step: None)

    def read() -> float:
        for _ in itertools.islice(batches, READ_AHEAD):
            pass
        begun, num_tokens = time.perf_counter(), 0
        while time.perf_counter() - begun < pairs.TURN:
            num_tokens += next(batches)["tokens"].size
        return num_tokens / (time.perf_counter() - begun)

    return read


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
