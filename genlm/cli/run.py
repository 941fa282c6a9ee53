"""`genlm run`: a config, with overrides, in a directory."""

import argparse
import os
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
    parser.add_argument(
        "--coordinator",
        default="",
        metavar="HOST:PORT",
        help="of several processes: where the first one listens, or auto on a TPU pod,"
        " Slurm or GKE",
    )
    parser.add_argument("--processes", default="", help="how many there are")
    parser.add_argument("--process", default="", help="the number of this one, from 0")
    parser.usage = (
        "genlm run CONFIG[:ARG] --workdir DIR [--config.key=value ...]\n"
        "       [--coordinator HOST:PORT --processes N --process I]"
    )


def main(arguments: argparse.Namespace) -> int:
    from genlm import config, stages

    if not arguments.workdir:  # else Path would take it for the current directory
        raise UserError("--workdir is empty")
    require_text(arguments.workdir, "--workdir")  # checkpoints cannot be written there
    _join(arguments)
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


def _join(arguments: argparse.Namespace) -> None:
    """Put the flags where genlm.parallel.hosts looks for them.

    Raises:
      UserError: some of them are missing.
    """
    flags = {"coordinator": "JAX_COORDINATOR_ADDRESS"}
    if arguments.coordinator != "auto":
        flags |= {"processes": "JAX_NUM_PROCESSES", "process": "JAX_PROCESS_ID"}
    elif arguments.processes or arguments.process:
        raise UserError("--coordinator auto knows --processes and --process itself")
    given = {name: getattr(arguments, name) for name in flags}
    if not any(given.values()):
        return
    if missing := [name for name, value in given.items() if not value]:
        raise UserError(f"--{missing[0]} is missing; see genlm run --help")
    os.environ |= {variable: given[name] for name, variable in flags.items()}
