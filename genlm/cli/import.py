"""`genlm import`: a public model -> a run directory."""

import argparse
from pathlib import Path

from genlm.errors import UserError, require_text

EXAMPLE = "genlm import --from models/SmolLM2-135M-Instruct --workdir runs/smollm2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--from",
        dest="source",
        required=True,
        help="a Hugging Face folder (config.json, safetensors, tokenizer.json), a GGUF"
        " file or, with --base, an adapter of PEFT",
    )
    add("--base", default="", help="the run whose model the adapter changes")
    add("--workdir", required=True, help="where the run goes")


def main(arguments: argparse.Namespace) -> int:
    if not arguments.workdir:  # else Path would take it for the current directory
        raise UserError("--workdir is empty")
    for name in ("source", "workdir", "base"):
        require_text(getattr(arguments, name), f"--{name}".replace("source", "from"))

    from ml_collections import ConfigDict

    from genlm import stages

    config = {"stage": "import_model", "seed": 0, "path": arguments.source}
    config["base"] = arguments.base
    stages.run(ConfigDict(config), Path(arguments.workdir))
    return 0
