"""`genlm chat`: talk with a model that was trained on conversations."""

import argparse
import codecs
from pathlib import Path
import sys
from typing import Any, Iterator

from genlm.errors import UserError, require_text

EXAMPLE = 'genlm chat --from runs/smollm2 --system "You answer in one sentence."'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", required=True, type=Path, help="a run directory")
    add("--system", default="", help="what the model is told before the first turn")
    add("--max-tokens", type=int, default=512, help="most tokens of an answer")
    add("--temperature", type=float, default=0.7, help="0 takes the likeliest token")
    add("--top-k", type=int, default=0, help="draw among the k likeliest; 0 for all")
    add("--top-p", type=float, default=0.95, help="draw among this share")
    add("--seed", type=int, default=0, help="the same seed, the same answers")
    add("--checkpoint", default="last", help="last, best, a step, or mean:K")


def main(arguments: argparse.Namespace) -> int:
    from genlm.cli import generate

    generate.check(arguments)
    require_text(arguments.system, "--system")

    from genlm.inference.sampling import SamplingConfig
    from genlm.interop.run import open_run
    from genlm.parallel import hosts

    sampling = SamplingConfig(arguments.temperature, arguments.top_k, arguments.top_p)
    hosts.setup()
    opened = open_run(arguments.source, arguments.checkpoint)
    system = [{"role": "system", "content": arguments.system}]
    messages: list[dict[str, str]] = system if arguments.system else []
    for turn, said in enumerate(_lines()):
        messages.append({"role": "user", "content": said})
        answer = ""
        for text in _answer(opened, messages, arguments, sampling, turn):
            print(text, end="", flush=True)
            answer += text
        print(flush=True)
        messages.append({"role": "assistant", "content": answer})
    return 0


def _lines() -> Iterator[str]:
    """What the user says, a line a turn, until an empty line or the end."""
    is_person = sys.stdin.isatty()
    if is_person:
        print("Say something; an empty line ends the conversation.", flush=True)
    while True:
        if is_person:
            print("> ", end="", flush=True)
        raw = sys.stdin.buffer.readline()
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"standard input is not UTF-8: {error.reason}") from error
        if not line:
            return
        yield line


def _answer(
    opened: Any,
    messages: list[dict[str, str]],
    arguments: argparse.Namespace,
    sampling: Any,
    turn: int,
) -> Iterator[str]:
    """The answer to a conversation, in the pieces that it comes in."""
    from genlm.data import chat
    from genlm.inference import decode

    tokenizer = opened.tokenizer
    prompt = chat.encode_chat(tokenizer, messages)
    decode.require_memory(opened.config, [prompt], arguments.max_tokens)
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    ids: list[int] = []
    said = b""
    for token in decode.stream(
        opened.params,
        opened.config,
        prompt,
        max_tokens=arguments.max_tokens,
        stop_ids=tokenizer.special.all_stops,
        pad=tokenizer.special.pad,
        sampling=sampling,
        seed=(arguments.seed + turn) % (1 << 31),
    ):
        ids.append(token)
        whole = tokenizer.decode(ids)
        yield utf8.decode(whole[len(said) :])
        said = whole
    yield utf8.decode(b"", final=True)
