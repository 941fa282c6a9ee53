"""`genlm sweep`: one recipe at several settings and seeds."""

import argparse
from pathlib import Path
import sys

from genlm.errors import Stopped, UserError, require_text

EXAMPLE = (
    "genlm sweep experiments/pretrain_names.py:smoke --workdir runs/sweep"
    " --seeds 0,1,2 --vary optimizer.learning_rate=1e-3,3e-3"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", help="FILE or FILE:ARG, a config of one pretrain stage")
    add("--workdir", required=True, help="where it all goes, a folder a point")
    add("--seeds", default="", help="such as 0,1,2; the recipe's own if not given")
    add(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="values to try; given again, every combination",
    )
    add(
        "--together",
        action="store_true",
        help="train the seeds of a setting as one program, where memory allows",
    )
    parser.usage = (
        "genlm sweep CONFIG[:ARG] --workdir DIR [--seeds 0,1] [--vary KEY=A,B ...]"
        " [--together] [--config.key=value ...]"
    )


def main(arguments: argparse.Namespace) -> int:
    from genlm import config
    from genlm.stages import sweep

    if not arguments.workdir:
        raise UserError("--workdir is empty")
    require_text(arguments.workdir, "--workdir")  # checkpoints cannot be written there
    resolved = config.load(arguments.config, arguments.rest)
    seeds = _seeds(arguments.seeds) or (resolved.get("seed"),)
    try:
        is_whole = sweep.run(
            resolved,
            Path(arguments.workdir),
            arguments.vary,
            seeds,
            arguments.together,
        )
    except Stopped as stopped:
        print(
            f"genlm sweep: {stopped}. The same command goes on from there.",
            file=sys.stderr,
        )
        return 128 + stopped.number
    return 0 if is_whole else 1


def _seeds(text: str) -> tuple[int, ...]:
    """The numbers of 'a,b,c'; none of an empty text."""
    items = text.split(",") if text else []
    if not all(i.isdecimal() and int(i) < 1 << 31 for i in items):
        raise UserError(f"--seeds {text}: numbers from 0 to 2147483647, with commas")
    return tuple(dict.fromkeys(map(int, items)))
