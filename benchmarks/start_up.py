"""Seconds until `genlm --help` has answered and until a first train step has ended."""

import argparse
import os
from pathlib import Path
import sys
import tempfile
import time
from typing import Iterator

from benchmarks import command, pairs, table, texts
from benchmarks.table import Row
from genlm.errors import UserError
from genlm.runs import metrics

HELPS = 10
STARTS = 5
LONGEST = 600.0  # seconds


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """The help beside a bare interpreter, the first step beside `import jax`."""
    del arguments
    sides = (
        lambda: seconds("-m", "genlm.cli", "--help"),
        lambda: seconds("-c", "pass"),
    )
    helps = pairs.take_turns(sides, HELPS)
    yield pairs.row("genlm --help beside python", "s", *helps, less_is_better=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts.write_names(folder / "names.txt", 2000)
        cold = first_step(folder, "cold")
        yield pairs.row("first step, nothing compiled yet", "s", [cold])
        numbers = iter(range(STARTS))
        sides = (
            lambda: first_step(folder, f"warm-{next(numbers)}"),
            lambda: seconds("-c", "import jax; jax.devices()"),
        )
        starts = pairs.take_turns(sides, STARTS)
        yield pairs.row(
            "first step, compiled before, beside import jax",
            "s",
            *starts,
            less_is_better=True,
        )


def seconds(*arguments: str) -> float:
    """Seconds of a Python from its start to its end."""
    begun = time.perf_counter()
    command.finish(command.python(*arguments))
    return time.perf_counter() - begun


def first_step(folder: Path, run: str) -> float:
    """Seconds from the start of a run to its first row of metrics.

    Raw text to a first step: the data are prepared in this time as well. Compiled
    programs are kept in `folder`, so that the first call finds none.
    """
    workdir = folder / run
    begun = time.perf_counter()
    process = command.genlm(
        "run",
        "experiments/pretrain_names.py",
        f"--workdir={workdir}",
        f"--config.data.paths={folder / 'names.txt'}",
        "--config.train.log_every=1",
        "--config.train.num_steps=1000000",
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
    )
    try:
        while not metrics.read(workdir / "metrics.jsonl"):
            if process.poll() is not None or time.perf_counter() - begun > LONGEST:
                raise UserError(f"{run}: no first step within {LONGEST:.0f} s")
            time.sleep(0.01)
        return time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
