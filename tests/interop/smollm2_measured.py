"""What SmolLM2 says, as JSON: `python -m tests.interop.smollm2_measured RUN`, with
{"novel": ids, "prompts": [...], "num": tokens of an answer} on standard input.

In a process of its own: the eight devices and the quick compilation of the tests make
a real model slow.
"""

import dataclasses
import json
from pathlib import Path
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from genlm.inference import decode
from genlm.inference.sampling import SamplingConfig
from genlm.interop.run import Opened, open_run
from genlm.model import quantized, transformer
from genlm.model.quantized import BITS


def nats(opened: Opened, ids: list[int]) -> float:
    """The mean negative log-likelihood of each id but the first."""
    tokens = jnp.asarray([ids], jnp.int32)
    batch = {
        "tokens": tokens,
        "segments": jnp.ones_like(tokens),
        "positions": jnp.arange(len(ids))[None],
    }

    @jax.jit
    def score(params: Any) -> jax.Array:
        hidden_BTD, _, _ = transformer.apply(params, batch, opened.config)
        logits_BTV = transformer.unembed(params, hidden_BTD, opened.config)
        logp_BTV = jax.nn.log_softmax(logits_BTV[:, :-1])
        return -jnp.take_along_axis(logp_BTV, tokens[:, 1:, None], -1).mean()

    return float(score(opened.params))


def greedy(opened: Opened, prompts: list[str], num: int) -> list[list[int]]:
    """The `num` likeliest tokens after each prompt, fewer where STOP comes."""
    answers = decode.generate(
        opened.params,
        opened.config,
        [opened.tokenizer.encode(prompt.encode()).tolist() for prompt in prompts],
        max_tokens=num,
        stop_ids=opened.tokenizer.special.all_stops,
        pad=opened.tokenizer.special.pad,
        sampling=SamplingConfig(temperature=0.0),
    )
    return [answer.tokens for answer in answers]


def in_bits(opened: Opened, bits: int) -> Opened:
    """The model with the matrices of its blocks in few bits."""
    tree = transformer.param_specs(opened.config)
    config = dataclasses.replace(opened.config, scan_layers=True)  # quick to compile
    params = quantized.quantize(opened.params, tree, bits)
    return opened._replace(params=params, config=config)


def main(run: Path) -> None:
    asked = json.load(sys.stdin)
    begin = time.perf_counter()
    opened = open_run(run)
    jax.block_until_ready(opened.params)
    found = {
        "seconds": time.perf_counter() - begin,
        "nats": nats(opened, asked["novel"]),
        "answers": greedy(opened, asked["prompts"], asked["num"]),
        "nats_of_bits": {
            bits: nats(in_bits(opened, bits), asked["novel"]) for bits in BITS
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
