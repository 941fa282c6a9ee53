"""Tokens a second of a train step, beside torch on transformers' GPT-2."""

import argparse
import contextlib
import itertools
from statistics import median
import sys
from typing import Iterator, Sequence

from benchmarks import pairs, table
from benchmarks.pairs import Worker
from benchmarks.shapes import DEFAULT, FULL, SHAPES
from benchmarks.table import Row
from genlm.errors import UserError


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Every shape in both types; with --full larger ones, and torch.compile too."""
    modes: Sequence[str | None] = ("eager", "compile") if arguments.full else ("eager",)
    if pairs.peer(arguments.peer) is None:
        modes = (None,)
    names = FULL if arguments.full else DEFAULT
    for name, dtype, mode in itertools.product(names, ("float32", "bfloat16"), modes):
        yield from compare(name, dtype, mode)


def compare(name: str, dtype: str, mode: str | None) -> Iterator[Row]:
    """The row of a shape, and that of the matrix product it is held against."""
    shape = SHAPES[name]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker("benchmarks.train_genlm", name, dtype))]
        if mode:
            torch = Worker("benchmarks.train_torch", name, dtype, mode)
            workers.append(stack.enter_context(torch))
        for worker in workers:
            if not shape.loss_is_right(*worker.losses):
                raise UserError(f"{shape.name}: a loss is not what it should be")
        turns = pairs.take_turns([worker.go for worker in workers])
    rates = [[shape.tokens / t.seconds for t in side] for side in turns]
    products = [[t.flops / 1e9 for t in side] for side in turns]
    title = f"{shape.name} {dtype}" + (f" beside torch {mode}" if mode else "")
    yield pairs.row(
        title,
        "tokens/s",
        *rates,
        utilisation=median(shape.flops / t.seconds / t.flops for t in turns[0]),
    )
    yield pairs.row(f"{title}: matrix product", "GFLOP/s", *products)


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
