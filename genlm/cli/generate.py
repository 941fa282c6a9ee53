"""`genlm generate`: prompts -> text."""

import argparse
import json
from pathlib import Path
import sys

EXAMPLE = 'genlm generate --from runs/life --prompt "Return a list of" --max-tokens 60'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", required=True, type=Path, help="a run directory")
    add("--prompt", action="append", help="text to continue; may be given again")
    add("--prompts", help="a file of prompts, one a line; - for standard input")
    add("--max-tokens", type=int, default=128, help="most tokens of an answer")
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest token")
    add("--top-k", type=int, default=0, help="draw among the k likeliest; 0 for all")
    add("--top-p", type=float, default=1.0, help="draw among this share of probability")
    add("--seed", type=int, default=0, help="the same seed, the same text")
    add("--checkpoint", default="last", help="last, best, or a step")
    add("--json", action="store_true", help="one JSON object a prompt")


def main(arguments: argparse.Namespace) -> int:
    from genlm.inference import decode
    from genlm.inference.sampling import SamplingConfig
    from genlm.interop.run import open_run
    from genlm.parallel import hosts

    sampling = SamplingConfig(arguments.temperature, arguments.top_k, arguments.top_p)
    prompts = _prompts(arguments)
    hosts.setup()
    params, config, tokenizer, _ = open_run(arguments.source, arguments.checkpoint)
    answers = decode.generate(
        params,
        config,
        [[tokenizer.special.bos, *tokenizer.encode(p.encode())] for p in prompts],
        max_tokens=arguments.max_tokens,
        stop_ids=(tokenizer.special.stop,),
        pad=tokenizer.special.pad,
        sampling=sampling,
        seed=arguments.seed,
    )
    for prompt, answer in zip(prompts, answers):
        text = tokenizer.decode(answer.tokens).decode("utf-8", "replace")
        if arguments.json:
            row = {"prompt": prompt, "text": text, **answer._asdict()}
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            print(prompt + text, flush=True)
    return 0


def _prompts(arguments: argparse.Namespace) -> list[str]:
    from genlm.errors import UserError

    prompts = list(arguments.prompt or [])
    if arguments.prompts == "-":
        prompts += sys.stdin.read().splitlines()
    elif arguments.prompts:
        try:
            prompts += Path(arguments.prompts).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read prompts: {error}") from error
    return prompts or [""]
