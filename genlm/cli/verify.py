"""`genlm verify`: what a run wrote and read, against the hashes written with it."""

import argparse
from pathlib import Path
import sys

EXAMPLE = "genlm verify runs/life"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="a run, or a life of several")


def main(arguments: argparse.Namespace) -> int:
    from genlm.errors import UserError

    root = arguments.directory
    if not root.is_dir():
        raise UserError(f"no directory {root}")
    runs = sorted(p.parent for p in root.rglob("lineage.json"))
    if not runs:
        raise UserError(f"no run in {root}: no lineage.json")
    from genlm.runs import checkpoint  # loads jax
    from genlm.runs import lineage
    from genlm.runs.progress import track

    bad = 0
    for run in runs:
        found = lineage.faults(run)
        steps = checkpoint.steps(run)
        for step in track(steps, "checkpoints", len(steps), "checkpoints"):
            found += checkpoint.faults(run, step)
        for line in found:
            print(line, file=sys.stderr)
        if missing := lineage.missing_inputs(run):
            print(f"{run}: {missing} of its inputs not found here, so not checked")
        unfinished = "" if lineage.read(run).get("outputs") else "unfinished, "
        print(f"{run}: {unfinished}{'damaged' if found else 'as it was written'}")
        bad += bool(found)
    return 1 if bad else 0
