"""ANSWER: what a run writes after prompts, or answers in a conversation.

Before: import_model or pretrain. Writes answers.jsonl, a prompt a line.
"""

import dataclasses
import json
from pathlib import Path

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError, require_text
from genlm.inference.sampling import SamplingConfig
from genlm.interop.run import find, is_choice, open_run
from genlm.parallel import hosts
from genlm.runs import directory, lineage
from genlm.stages import rerun, writing

READS = ("seed", "source", "checkpoint", "answer")


@dataclasses.dataclass(frozen=True)
class AnswerConfig:
    """chat: prompts are what a user says, put into the model's template."""

    prompts: tuple[str, ...]
    chat: bool
    system: str  # what a chat model is told first; empty: nothing
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float

    def __post_init__(self) -> None:
        if not self.prompts or self.max_tokens < 1:
            raise UserError("answer.prompts has none, or max_tokens is not positive")
        for text in (*self.prompts, self.system):
            require_text(text, "answer")
        self.sampling()

    def sampling(self) -> SamplingConfig:
        return SamplingConfig(self.temperature, self.top_k, self.top_p)


def read(config: ConfigDict) -> AnswerConfig:
    """What this stage reads of a config, checked."""
    if not is_choice(str(config.checkpoint)):
        raise UserError(f"checkpoint {config.checkpoint!r} is none")
    return configs.to_dataclass(AnswerConfig, config.answer)


def run(config: ConfigDict, workdir: Path) -> None:
    """Write workdir/answers.jsonl."""
    asked = read(config)
    source = find(Path(config.source))
    outputs = lineage.read(source).get("outputs")
    inputs = {str(source): {"sha256": lineage.digest(outputs)}}
    if rerun.is_finished(config, workdir, inputs, renew=True):
        _show(workdir)
        return
    hosts.setup()
    params, model, tokenizer, _ = open_run(source, str(config.checkpoint))
    write = writing.make_writer(
        model,
        tokenizer,
        writing.encode(tokenizer, asked.prompts, asked.chat, asked.system),
        max_tokens=asked.max_tokens,
        sampling=asked.sampling(),
        seed=config.seed,
    )
    lines = [
        {"prompt": prompt, "text": text, "stop_reason": answer.stop_reason}
        for prompt, (text, answer) in zip(asked.prompts, write(params))
    ]
    directory.create(workdir)
    rows = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    directory.write_atomic(workdir / "answers.jsonl", rows)
    rerun.save_config(config, workdir)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, ["answers.jsonl"]))
    _show(workdir)


def _show(workdir: Path) -> None:
    text = (workdir / "answers.jsonl").read_text("utf-8")
    for line in text.removesuffix("\n").split("\n"):  # not at U+2028 within a row
        row = json.loads(line)
        print(f"--- {row['prompt']!r}\n{row['text']}\n", flush=True)
