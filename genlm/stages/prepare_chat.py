"""PREPARE CHAT: conversations -> token shards that say what is trained on.

Before: data.conversations, and the tokenizer of the model that is fine-tuned. After:
any stage that trains on `Prepared` rows. Two readings, as in prepare: the first takes
hashes (for duplicates and the split), the second writes. A conversation longer than a
row ends at its last answer that fits; one whose first answer does not is left out.
"""

import dataclasses
from pathlib import Path
from typing import Any, Iterator

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.data import chat, conversations, embedded, rows, shards, sources, synthetic
from genlm.data.chat import Message
from genlm.data.dedup import Key
from genlm.errors import UserError
from genlm.runs import directory, lineage
from genlm.runs.progress import track
from genlm.stages import prepare, rerun
from genlm.stages.prepare import SPLITS
from genlm.tokenizer.base import ChatTokenizer, Tokenizer
from genlm.tokenizer.controls import ControlsTokenizer

TEMPLATES = ("model", "chatml")
READS = ("seed", "data")


@dataclasses.dataclass(frozen=True)
class TurnsConfig:
    """What to read of rows that are written in a chat format.

    valid_paths: what is held out; '' for a share of `paths`, by what is asked.
    template: the model's own or, where it has none, 'chatml'.
    """

    paths: str
    valid_paths: str
    form: str
    strict: bool
    valid_fraction: float
    row_length: int
    template: str

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise UserError("data.valid_fraction is not between 0 and 1")
        if self.row_length < 1:
            raise UserError("data.row_length is not positive")
        if self.template not in TEMPLATES:
            raise UserError(f"data.template {self.template!r} is none of {TEMPLATES}")


@dataclasses.dataclass(frozen=True)
class ChatDataConfig(TurnsConfig):
    """Conversations: see data.conversations for `paths` and `form`."""

    prepared: str = ""  # a finished run of this kind to use instead

    def __post_init__(self) -> None:
        super().__post_init__()
        conversations.check_form(self.form)


def read(config: ConfigDict) -> ChatDataConfig:
    """What this reads of a config, checked."""
    return configs.to_dataclass(ChatDataConfig, config.data)


def tokenizer_of(base: Tokenizer, template: str) -> Tokenizer:
    """The tokenizer that conversations are encoded with: `base`, or with control tokens
    added where it has none.

    Raises:
      UserError: the model's own template is asked for, and it has none.
    """
    if template == "model" and chat.has_template(base):
        return base
    if isinstance(base, ChatTokenizer):
        raise UserError(
            "this model's tokenizer has no chat template of its own, and one from"
            " elsewhere gets none here; take a model that was made for conversations"
        )
    if template == "model":
        raise UserError(
            "this model has no chat template: take --config.data.template=chatml"
        )
    return ControlsTokenizer(base)


def run(config: ConfigDict, workdir: Path, source: Path, base: Tokenizer) -> None:
    """Write workdir/tokens/{tokenizer, train, valid, summary.json} and its lineage.

    Args:
      source: the run whose model is fine-tuned, and `base` its tokenizer.
    """
    data = read(config)
    own = ConfigDict({"stage": "prepare_chat", "seed": config.seed})
    own.data = config.data
    rerun.check_kind(own, workdir)
    inputs = of_files(data, source, workdir, conversations.EMBEDDED)
    if rerun.is_finished(own, workdir, inputs):
        return
    directory.create(workdir)
    tokenizer = tokenizer_of(base, data.template)
    held_out = _HeldOut.of(data)

    def write(folder: Path) -> dict[str, Any]:
        return _write(data, held_out, tokenizer, folder)

    summary = prepare.fill(workdir, own, inputs, tokenizer, write)
    print(_describe(summary), flush=True)


def of_files(
    data: TurnsConfig, source: Path, workdir: Path, installed: str
) -> dict[str, Any]:
    """Lineage entries of the tokenizer's files and those that are read; of `installed`,
    which is made of the installation, its sources."""
    files = sorted(p for p in (source / "tokenizer").rglob("*") if p.is_file())
    named = [data.paths, *filter(None, [data.valid_paths])]
    files += prepare.named_files(named, {installed: embedded.files})
    return lineage.of_inputs(files, lineage.read(workdir).get("inputs", {}))


@dataclasses.dataclass(frozen=True)
class _HeldOut:
    """Which conversations are kept, and which of those are held out."""

    kept: np.ndarray  # [conversations] bool
    fraction: float

    @classmethod
    def of(cls, data: ChatDataConfig) -> "_HeldOut":
        """After the first reading: at least one conversation on either side."""
        keys, lowest = [], []
        for conversation in _read(data.paths, data, "read"):
            keys.append(Key(repr(conversation["messages"])).value())
            lowest.append(synthetic.lowest(conversation))
        kept = np.zeros(len(keys), bool)
        kept[np.unique(np.asarray(keys, np.uint64), return_index=True)[1]] = True
        first = min(lowest)
        if not data.valid_paths and first == max(lowest):
            raise UserError(
                "data.paths: all conversations ask one thing, so none can be held out;"
                " name others in data.valid_paths"
            )
        # more than what is asked for where it would be none
        return cls(kept, max(data.valid_fraction, float(np.nextafter(first, 1.0))))

    def split(self, number: int, conversation: dict[str, Any]) -> str:
        """'train' or 'valid'."""
        return SPLITS[synthetic.is_held_out(conversation, self.fraction)]


def _read(
    paths: str, data: ChatDataConfig, title: str
) -> Iterator[synthetic.Conversation]:
    found = conversations.read(paths, data.form, data.strict)
    return iter(track(found, title, None, "conversations"))


def _write(
    data: ChatDataConfig, held_out: _HeldOut, tokenizer: Tokenizer, folder: Path
) -> dict[str, Any]:
    """Write shards and row indexes of both splits; returns the summary."""
    counts = {"shortened": 0, "too_long": 0}
    writers = {
        split: shards.Writer(folder / split, tokenizer.vocab_size, weighted=True)
        for split in SPLITS
    }
    with writers["train"], writers["valid"]:
        for split, conversation in _split(data, held_out):
            messages = conversation["messages"]
            fitting = _fitting(tokenizer, messages, data.row_length + 1)
            if fitting is None:
                counts["too_long"] += 1
                continue
            ids, trained, num_messages = fitting
            counts["shortened"] += num_messages < len(messages)
            said = len(tokenizer.decode(ids[trained]))
            writers[split].add(ids, trained, said)
        indexes = {split: writer.close() for split, writer in writers.items()}
    for split, index in indexes.items():
        if not index["documents"]:
            raise UserError(
                f"data: the {split} split has no conversation that fits into a row of"
                f" {data.row_length} tokens; {counts['too_long']} are longer"
            )
        packed = rows.index(shards.Tokens(folder / split).documents, data.row_length)
        rows.save(packed, folder / split)
        index["rows"] = len(packed)
    is_embedded = data.paths == conversations.EMBEDDED
    return {
        "source": data.paths,
        "licence": synthetic.LICENCE if is_embedded else sources.licence(data.paths),
        "duplicates": int(np.sum(~held_out.kept)),
        "vocab_size": tokenizer.vocab_size,
        "row_length": data.row_length,
        **counts,
        **indexes,
    }


def _split(
    data: ChatDataConfig, held_out: _HeldOut
) -> Iterator[tuple[str, synthetic.Conversation]]:
    """('train' or 'valid', conversation) of the second reading."""
    for number, each in enumerate(_read(data.paths, data, "tokenize")):
        if number >= len(held_out.kept):
            raise UserError("data.paths: a file grew while it was read; run again")
        if held_out.kept[number]:
            split = "train" if data.valid_paths else held_out.split(number, each)
            yield split, each
    if data.valid_paths:
        for each in _read(data.valid_paths, data, "tokenize"):
            yield "valid", each


def _fitting(
    tokenizer: Tokenizer, messages: list[Message], slots: int
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Ids, what of them is trained on, and how many messages: the most that fit into
    `slots` and end with an answer; None where not even the first does."""
    ends = [n for n, m in enumerate(messages, 1) if m["role"] in chat.ASSISTANT]
    for end in reversed(ends):
        ids, trained = chat.encode_training(tokenizer, messages[:end])
        if len(ids) <= slots:
            return ids, trained, end
    return None


def _describe(summary: dict[str, Any]) -> str:
    lines = [f"{summary['source']}: {summary['duplicates']} duplicates left out"]
    length = summary["row_length"]
    if summary["shortened"]:
        lines.append(
            f"  {summary['shortened']:,} conversations end at the last answer that fits"
            f" into {length} tokens"
        )
    if summary["too_long"]:
        lines.append(
            f"  {summary['too_long']:,} are left out: their first answer does not end"
            f" within {length} tokens; data.row_length would take more"
        )
    for split in SPLITS:
        n = summary[split]
        lines.append(
            f"  {split}: {n['documents']:,} conversations, {n['tokens']:,} tokens, of"
            f" which {n['trained']:,} are trained on"
            f" ({n['trained'] / n['tokens']:.0%}), {n['rows']:,} rows"
        )
    return "\n".join(lines)
