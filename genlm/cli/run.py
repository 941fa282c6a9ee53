"""`genlm run`: a config, with overrides, in a directory."""

import argparse
from pathlib import Path
import sys

from genlm.errors import Stopped, UserError, require_text

EXAMPLE = (
    "genlm run experiments/life.py:smoke --workdir runs/life"
    " --config.pretrain.train.num_steps=50"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="FILE or FILE:ARG, a file with get_config(arg)")
    parser.add_argument("--workdir", required=True, help="where it all goes")
    parser.usage = "genlm run CONFIG[:ARG] --workdir DIR [--config.key=value ...]"


def main(arguments: argparse.Namespace) -> int:
    from genlm import config, stages

    if not arguments.workdir:  # else Path would take it for the current directory
        raise UserError("--workdir is empty")
    require_text(arguments.workdir, "--workdir")  # checkpoints cannot be written there
    resolved = config.load(arguments.config, arguments.rest)
    try:
        stages.run(resolved, Path(arguments.workdir))
    except Stopped as stopped:
        print(
            f"genlm run: {stopped}. The same command goes on from there.",
            file=sys.stderr,
        )
        return 128 + stopped.number
    return 0
