"""`genlm generate`: prompts -> text."""

import argparse
import json
from pathlib import Path

from genlm.cli import lines
from genlm.errors import UserError, require_text

EXAMPLE = 'genlm generate --from runs/life --prompt "Return a list of" --max-tokens 60'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", required=True, type=Path, help="a run directory")
    add("--prompt", action="append", help="text to continue; may be given again")
    add(
        "--prompts",
        help="a file of prompts, one a line, a blank line an empty one; - for stdin",
    )
    add("--max-tokens", type=int, default=128, help="most tokens of an answer")
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest token")
    add("--top-k", type=int, default=0, help="draw among the k likeliest; 0 for all")
    add("--top-p", type=float, default=1.0, help="draw among this share of probability")
    add("--seed", type=int, default=0, help="the same seed, the same text")
    add(
        "--checkpoint",
        default="last",
        help="last, best, a step, or mean:K of the last K",
    )
    add("--chat", action="store_true", help="prompts are what a user says in a chat")
    add("--json", action="store_true", help="one JSON object a prompt")


def main(arguments: argparse.Namespace) -> int:
    prompts = _prompts(arguments)
    check(arguments)

    from genlm.inference.sampling import SamplingConfig
    from genlm.interop.run import open_run
    from genlm.parallel import hosts
    from genlm.stages import writing

    sampling = SamplingConfig(arguments.temperature, arguments.top_k, arguments.top_p)
    hosts.setup()
    params, config, tokenizer, _ = open_run(arguments.source, arguments.checkpoint)
    write = writing.make_writer(
        config,
        tokenizer,
        writing.encode(tokenizer, prompts, arguments.chat),
        max_tokens=arguments.max_tokens,
        sampling=sampling,
        seed=arguments.seed,
    )
    for prompt, (text, answer) in zip(prompts, write(params)):
        if arguments.json:
            row = {"prompt": prompt, "text": text, **answer._asdict()}
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            print(text if arguments.chat else prompt + text, flush=True)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Say what can be said before a model is opened."""
    if arguments.max_tokens < 1:
        raise UserError(f"--max-tokens {arguments.max_tokens} is not positive")
    if not 0 <= arguments.seed < 1 << 31:
        raise UserError(f"--seed {arguments.seed} is not from 0 to 2147483647")
    require_text(str(arguments.source), "--from")
    if not arguments.source.is_dir():
        raise UserError(f"--from: no directory {arguments.source}")


def _prompts(arguments: argparse.Namespace) -> list[str]:
    """Those of --prompt, then those of --prompts; one empty prompt if neither is."""
    prompts = list(arguments.prompt or [])
    if arguments.prompts is not None:
        prompts += lines.read(arguments.prompts, "--prompts")
    for prompt in prompts:
        require_text(prompt, "--prompt")
    return prompts or [""]
