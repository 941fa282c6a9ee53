"""`genlm report`: a run as one HTML page."""

import argparse
from pathlib import Path
from typing import Any

from genlm.errors import UserError

EXAMPLE = "genlm report runs/life"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directories",
        metavar="DIR",
        nargs="+",
        type=Path,
        help="a stage's run, or a life of several; finished or not",
    )
    parser.add_argument(
        "--out", type=Path, help="the file to write, of a single DIR (DIR/report.html)"
    )


def main(arguments: argparse.Namespace) -> int:
    if arguments.out and len(arguments.directories) > 1:
        raise UserError("--out names one file, so it takes a single DIR")

    from genlm.runs import report

    for folder in arguments.directories:
        out = arguments.out or folder / "report.html"
        report.write(folder, out, _num_parameters)
        print(out)
    return 0


def _num_parameters(shape: dict[str, Any]) -> int:
    """How many parameters a model has, from its model.json."""
    from genlm.model import transformer
    from genlm.parallel import specs

    try:
        config = transformer.TransformerConfig(**shape)
    except TypeError as error:
        raise UserError(
            f"model.json is of another version of genlm: {error}"
        ) from error
    return specs.count(transformer.param_specs(config))
