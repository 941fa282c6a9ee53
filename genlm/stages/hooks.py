"""HOOKS: what a training stage measures and writes on its way.

Before: the parameters between two steps. After: rows of metrics.jsonl (validation) and
samples.jsonl (what the model writes), and the scores that pick the best checkpoint.
"""

import collections
import dataclasses
import itertools
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from genlm.data import batches
from genlm.errors import UserError, require_text
from genlm.evaluate import perplexity
from genlm.inference.sampling import SamplingConfig
from genlm.interop import exporting
from genlm.interop.run import Opened
from genlm.model.config import TransformerConfig
from genlm.parallel import sharding
from genlm.stages import writing
from genlm.stages.prepare import Prepared
from genlm.tokenizer.base import Tokenizer
from genlm.train import losses


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What is measured and written, whenever that is."""

    batch_size: int
    prompts: tuple[str, ...]
    chat: bool  # prompts are what a user says
    max_tokens: int
    temperature: float
    top_p: float

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"eval.{name} is not positive")
        if not self.prompts:
            raise UserError("eval.prompts has none; an empty one is ('',)")
        for prompt in self.prompts:
            require_text(prompt, "eval.prompts")
        SamplingConfig(self.temperature, top_p=self.top_p)

    def check_division(self, ways: int) -> None:
        """Make sure that a validation batch divides over `ways` devices."""
        if self.batch_size % ways:
            raise UserError(
                f"eval.batch_size {self.batch_size} does not divide over {ways} devices"
            )


@dataclasses.dataclass(frozen=True)
class TrainEvalConfig(EvalConfig):
    """The same on the way of a training; intervals in steps, 0 for never."""

    eval_every: int
    sample_every: int
    max_rows: int = 0  # of the held-out split that are validated on; 0: all

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("eval_every", "max_rows", "sample_every"):
            if getattr(self, name) < 0:
                raise UserError(f"eval.{name} is below 0")


def make_validation(
    prepared: Prepared,
    model: TransformerConfig,
    batch_size: int,
    mesh: Any,
    vocab_chunk: int = 0,
    max_rows: int = 0,
) -> Callable[[Any], dict[str, float]]:
    """A function of params that scores the held-out split, or `max_rows` of its rows
    (0: all), as far from each other as can be."""
    tokens, row_index = prepared.split("valid")
    if 0 < max_rows < len(row_index):
        some = np.linspace(0, len(row_index) - 1, max_rows).astype(int)
        row_index = row_index.take(some)
    loss = losses.make_next_token_loss(model.without_chance, vocab_chunk)

    process, num_processes = sharding.rows_of_process(mesh)

    def read() -> Iterator[Any]:
        rows_ = batches.valid_batches(
            tokens,
            row_index,
            batch_size=batch_size,
            pad=prepared.tokenizer.special.pad,
            process=process,
            num_processes=num_processes,
        )
        return on_devices(rows_, mesh)

    return perplexity.make_validate(loss, read, tokens.bytes_per_token())


def make_writer(
    model: TransformerConfig, tokenizer: Tokenizer, evaluation: EvalConfig, seed: int
) -> Callable[[Any], dict[str, list[dict[str, str]]]]:
    """A function of params: {'samples': what it writes after each of the prompts}."""
    prompts = evaluation.prompts
    write = writing.make_writer(
        model,
        tokenizer,
        writing.encode(tokenizer, prompts, evaluation.chat),
        max_tokens=evaluation.max_tokens,
        sampling=SamplingConfig(evaluation.temperature, top_p=evaluation.top_p),
        seed=seed,
    )
    return lambda params: {
        "samples": [
            {"prompt": prompt, "text": text, "stop_reason": answer.stop_reason}
            for prompt, (text, answer) in zip(prompts, write(params))
        ]
    }


def at_any_step(
    run: Callable[[Any], dict[str, Any]],
) -> Callable[[Any, int], dict[str, Any]]:
    """A hook's `run` of a function of params alone."""
    return lambda params, step: run(params)


def make_export(
    workdir: Path, model: TransformerConfig, tokenizer: Tokenizer, every: int
) -> Callable[[Any, int], dict[str, Any]]:
    """A function of params and step that writes workdir/exports/<step>, whole, in the
    place of what an earlier attempt left there.

    Raises:
      UserError: there are to be exports, and the model cannot be exported.
    """
    if every:
        exporting.check(model)

    def export(params: Any, step: int) -> dict[str, Any]:
        (workdir / "exports").mkdir(exist_ok=True)
        out = workdir / "exports" / str(step)
        exporting.write(Opened(params, model, tokenizer, step), out)
        return {}

    return export


def on_devices(host_batches: Iterator[batches.Batch], mesh: Any) -> Iterator[Any]:
    """Batches on the devices, two ahead of their use."""
    moved = (sharding.global_batch(b, mesh) for b in host_batches)
    ahead = collections.deque(itertools.islice(moved, 2))
    while ahead:
        yield ahead.popleft()
        ahead.extend(itertools.islice(moved, 1))
