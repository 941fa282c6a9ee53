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
    add(
        "--adapter",
        action="append",
        help="a run with an adapter for the model of --from, a folder of PEFT's, or"
        " 'base' for no change; may be given again: each answers every prompt",
    )
    add("--chat", action="store_true", help="prompts are what a user says in a chat")
    add("--json", action="store_true", help="one JSON object an answer")


def main(arguments: argparse.Namespace) -> int:
    prompts = _prompts(arguments)
    check(arguments)
    for name in arguments.adapter or []:
        require_text(name, "--adapter")

    from genlm.inference.sampling import SamplingConfig
    from genlm.interop.run import find, open_run
    from genlm.parallel import hosts
    from genlm.stages import adapters, writing

    sampling = SamplingConfig(arguments.temperature, arguments.top_k, arguments.top_p)
    hosts.setup()
    names = arguments.adapter or [adapters.BASE]
    held = adapters.opened(names, find(arguments.source))
    params, config, tokenizer, _ = open_run(arguments.source, arguments.checkpoint)
    asked = [(i, prompt, name) for i, prompt in enumerate(prompts) for name in names]
    write = writing.make_writer(
        config,
        tokenizer,
        writing.encode(tokenizer, [prompt for _, prompt, _ in asked], arguments.chat),
        max_tokens=arguments.max_tokens,
        sampling=sampling,
        seed=arguments.seed,
        places=[i for i, _, _ in asked],
    )
    answers = write(adapters.beside(params, held, [name for _, _, name in asked]))
    for (_, prompt, name), (text, answer) in zip(asked, answers):
        if arguments.json:
            row = {"prompt": prompt, "text": text, **answer._asdict()}
            row |= {"adapter": name} if arguments.adapter else {}
            print(json.dumps(row, ensure_ascii=False), flush=True)
            continue
        if arguments.adapter:
            print(f"--- {name}", flush=True)
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
