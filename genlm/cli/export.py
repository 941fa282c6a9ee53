"""`genlm export`: a run -> a folder that other tools open."""

import argparse
from pathlib import Path

from genlm.errors import UserError, require_text

EXAMPLE = "genlm export --from runs/life --to hf --out exports/life"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", required=True, type=Path, help="a run directory")
    add(
        "--to",
        choices=("hf", "peft"),
        default="hf",
        help="hf: a Hugging Face folder; peft: the adapter alone, of a run that was"
        " imported with --base",
    )
    add("--out", required=True, type=Path, help="the folder to write")
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the weights in the files; float32 loses nothing",
    )
    add("--checkpoint", default="last", help="last, best, a step, or mean:K")


def main(arguments: argparse.Namespace) -> int:
    require_text(str(arguments.source), "--from")
    require_text(str(arguments.out), "--out")
    if not arguments.source.is_dir():
        raise UserError(f"--from: no directory {arguments.source}")

    from genlm.interop import exporting
    from genlm.interop.run import open_run
    from genlm.parallel import hosts

    hosts.setup()
    if arguments.to == "peft":
        if arguments.checkpoint != "last":
            raise UserError("--checkpoint: a run has one adapter, whatever the step")
        dtype = arguments.dtype
        run = exporting.write_adapter(arguments.source, arguments.out, dtype)
        print(f"{arguments.out}: the adapter of {run}", flush=True)
        return 0
    exporting.check_whole(arguments.source)
    opened = open_run(arguments.source, arguments.checkpoint)
    exporting.write(opened, arguments.out, arguments.dtype)
    print(f"{arguments.out}: step {opened.step} of {arguments.source}", flush=True)
    return 0
