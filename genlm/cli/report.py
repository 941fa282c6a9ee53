"""`genlm report`: a run as one HTML page, or several beside each other."""

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
        "--compare", action="store_true", help="one page of all DIRs, not one of each"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the file to write (DIR/report.html, or compare.html with --compare)",
    )


def main(arguments: argparse.Namespace) -> int:
    folders, out = arguments.directories, arguments.out
    if arguments.compare:
        from genlm.runs import compare

        out = out or Path("compare.html")
        compare.write(folders, out, _num_parameters, _flops_per_token)
        print(out)
        return 0
    if out and len(folders) > 1:
        raise UserError("--out names one file: it takes a single DIR, or --compare")

    from genlm.runs import report

    for folder in folders:
        page = out or folder / "report.html"
        report.write(folder, page, _num_parameters, _difference)
        print(page)
    return 0


def _num_parameters(shape: dict[str, Any]) -> int:
    """How many parameters a model has, from its model.json."""
    from genlm.interop import run
    from genlm.model import transformer
    from genlm.parallel import specs

    return specs.count(transformer.param_specs(run.config_of(shape)))


def _flops_per_token(shape: dict[str, Any]) -> int:
    """Operations to train a model on a token, from its model.json."""
    from genlm.interop import run
    from genlm.model import costs, transformer

    config = run.config_of(shape)
    return costs.flops_per_token(
        costs.in_products(transformer.param_specs(config), config.active_share),
        config.num_layers,
        config.num_heads,
        config.head_dim,
        config.max_length,
    )


def _difference(
    metric: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> tuple[float, float, float] | None:
    """(value, low, high) of a metric of ours less that of theirs, row by row."""
    from genlm.evaluate import metrics

    found = metrics.difference(metric, ours, theirs)
    return None if found is None else (found.value, found.low, found.high)
