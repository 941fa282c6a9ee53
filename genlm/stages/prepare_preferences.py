"""PREPARE PREFERENCES: what people preferred -> rows of answers side by side.

Before: data.preferences, and the tokenizer of the model that is trained. After: reward
and dpo. A row is one comparison: each answer with the prompt before it, in the model's
chat format, as a document of its own, so that nothing sees another and rows go the way
of all others. Beside the shards of a split:
  ranks.npy   [rows, K] int32, of each answer: 1 for the best; 0: there is none
  values.npy  [rows, K] float32, the scores that were given, or 0
"""

import dataclasses
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.data import (
    chat,
    conversations,
    preferences,
    rows,
    shards,
    synthetic,
    synthetic_pairs,
)
from genlm.data.chat import Message
from genlm.data.preference_forms import PREFERENCES, Judged
from genlm.data.preferences import LeftOut
from genlm.data.sources import licence
from genlm.errors import UserError
from genlm.interop.run import read_config
from genlm.runs import directory
from genlm.runs.progress import track
from genlm.stages import prepare, rerun
from genlm.stages.prepare import SPLITS
from genlm.stages.prepare_chat import TurnsConfig, of_files, tokenizer_of
from genlm.tokenizer.base import Tokenizer


class Row(NamedTuple):
    """A row to be: conversations that end with an answer, and what is said of them."""

    conversations: list[list[Message]]
    ranks: Sequence[int]
    values: Sequence[float]


@dataclasses.dataclass(frozen=True)
class PreferenceDataConfig(TurnsConfig):
    """What to read; see data.preferences for `paths` and `form`.

    answers: the most of a row; worse ones are left out.
    """

    answers: int
    prepared: str = ""  # a finished run of this kind to use instead

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answers < 2:
            raise UserError("data.answers is below 2")
        PREFERENCES.require(self.form)


def read(config: ConfigDict) -> PreferenceDataConfig:
    """What this reads of a config, checked."""
    return configs.to_dataclass(PreferenceDataConfig, config.data)


def run(
    config: ConfigDict, workdir: Path, source: Path, base: Tokenizer, arrangement: str
) -> None:
    """Write workdir/tokens/{tokenizer, train, valid, summary.json} and its lineage.

    Args:
      source: the run whose model is trained, and `base` its tokenizer.
      arrangement: a row has a whole ranking ('rankings'), a pair, the better answer
        first ('pairs'), or a pair and after it, with rank 0, the answers of another
        prompt's pair to this prompt ('mismatched').
    """
    data = read(config)
    own = ConfigDict({"stage": "prepare_preferences", "seed": config.seed})
    own.data, own.arrangement = config.data, arrangement
    rerun.check_kind(own, workdir)
    inputs = of_files(data, source, workdir, synthetic_pairs.EMBEDDED)
    if rerun.is_finished(own, workdir, inputs):
        return
    directory.create(workdir)
    tokenizer = tokenizer_of(base, data.template)
    longest = read_config(source).max_length

    def write(folder: Path) -> dict[str, Any]:
        return _write(data, arrangement, longest, tokenizer, folder)

    summary = prepare.fill(workdir, own, inputs, tokenizer, write)
    print(_describe(summary), flush=True)


def extras(folder: Path, split: str) -> dict[str, np.ndarray]:
    """{"ranks", "values"} of the rows of a split, in their order.

    Raises:
      UserError: they are damaged.
    """
    try:
        return {n: np.load(folder / split / f"{n}.npy") for n in ("ranks", "values")}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder} is damaged: {error}; prepare it anew") from error


def _write(
    data: PreferenceDataConfig,
    arrangement: str,
    longest: int,
    tokenizer: Tokenizer,
    folder: Path,
) -> dict[str, Any]:
    """Write shards and row indexes of both splits; returns the summary."""
    left_out, too_long, most, indexes = LeftOut(), 0, 0, {}
    arrange = _ARRANGE[arrangement]
    for split, judged in zip(SPLITS, _split(data)):
        kept: list[Row] = []
        writer = shards.Writer(folder / split, tokenizer.vocab_size, weighted=True)
        with writer:
            found = arrange(judged, data.answers, left_out)
            for row in track(found, f"tokenize {split}", len(found), "comparisons"):
                documents = _fitting(tokenizer, row, data.row_length, longest)
                if documents is None:
                    too_long += 1
                    continue
                for ids, trained in documents:
                    said = len(tokenizer.decode(ids[trained]))
                    writer.add(ids, trained, said)
                kept.append(row)
            indexes[split] = writer.close()
        if not kept:
            raise UserError(
                f"data: the {split} split has no comparison: {len(judged)} judgements,"
                f" {too_long} longer than a row of {data.row_length} tokens;"
                f" {left_out.describe() or 'data.valid_fraction divides them'}"
            )
        _save(folder / split, kept, data.row_length)
        most = max(most, *(len(row.ranks) for row in kept))
        indexes[split]["rows"] = len(kept)
    is_embedded = data.paths == synthetic_pairs.EMBEDDED
    return {
        "source": data.paths,
        "licence": synthetic_pairs.LICENCE if is_embedded else licence(data.paths),
        "vocab_size": tokenizer.vocab_size,
        "row_length": data.row_length,
        "arrangement": arrangement,
        "answers": most,
        "too_long": too_long,
        "left_out": left_out.describe(),
        **indexes,
    }


def _split(data: PreferenceDataConfig) -> tuple[list[Judged], list[Judged]]:
    """Judgements to train on and held out; one prompt stands on one side."""
    found = list(preferences.read(data.paths, data.form, data.strict))
    if data.valid_paths:
        held_out = preferences.read(data.valid_paths, data.form, data.strict)
        return found, list(held_out)
    sides: tuple[list[Judged], list[Judged]] = ([], [])
    for each in found:
        asked = conversations.key(each.messages)
        sides[synthetic.is_held_out(asked, data.valid_fraction)].append(each)
    return sides


def _rankings(judged: list[Judged], most: int, left_out: LeftOut) -> list[Row]:
    """A row for each judgement in which something is better than something."""
    found = []
    for each in judged:
        if not preferences.comparisons(each, left_out):
            continue
        values = each.scores or (0.0,) * len(each.answers)
        order = sorted(range(len(each.answers)), key=lambda k: each.ranks[k])[:most]
        ranks = [each.ranks[k] for k in order]
        if min(ranks) < max(ranks):
            ends = [_answered(each, each.answers[k]) for k in order]
            found.append(Row(ends, ranks, [values[k] for k in order]))
    return found


def _pairs(judged: list[Judged], most: int, left_out: LeftOut) -> list[Row]:
    """A row for each pair, the better answer first."""
    del most
    return [
        Row(
            [_answered(each, pair.better), _answered(each, pair.worse)],
            (1, 2),
            (pair.margin, 0.0),
        )
        for each in judged
        for pair in preferences.comparisons(each, left_out)
    ]


def _mismatched(judged: list[Judged], most: int, left_out: LeftOut) -> list[Row]:
    """Pairs, each with the answers of the next pair to its own prompt: what is marked
    good or bad with nothing to compare it with stands alone."""
    found = _pairs([each for each in judged if len(each.answers) > 1], most, left_out)
    marked = [each for each in judged if len(each.answers) == 1]
    found += [Row([_answered(m, m.answers[0])], m.ranks, (0.0,)) for m in marked]
    others = [_of_another_prompt(found, number) for number in range(len(found))]
    return [
        Row(
            [
                *row.conversations,
                *([*row.conversations[0][:-1], end[-1]] for end in other.conversations),
            ],
            (*row.ranks, *(0 for _ in other.ranks)),
            (*row.values, *(0.0 for _ in other.ranks)),
        )
        for row, other in zip(found, others)
    ]


def _of_another_prompt(rows_: list[Row], number: int) -> Row:
    """The next row whose prompt is another.

    Raises:
      UserError: all have the same prompt.
    """
    own = rows_[number].conversations[0][:-1]
    for step in range(1, len(rows_)):
        other = rows_[(number + step) % len(rows_)]
        if other.conversations[0][:-1] != own:
            return other
    raise UserError(
        "data: dpo.kind=kto holds answers against those to other prompts, and a split"
        " has one prompt alone; give more, or another data.valid_fraction"
    )


_ARRANGE: dict[str, Callable[[list[Judged], int, LeftOut], list[Row]]] = {
    "rankings": _rankings,
    "pairs": _pairs,
    "mismatched": _mismatched,
}


def _answered(judged: Judged, answer: str) -> list[Message]:
    return [*judged.messages, {"role": "assistant", "content": answer}]


def _fitting(
    tokenizer: Tokenizer, row: Row, slots: int, longest: int
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Ids of each answer's conversation, and what of them is its own: none is longer
    than the model looks back, and all together fit into `slots`. A longer one loses its
    first turns, a user's and what follows, but not a system's; None where the last
    alone is too long."""
    first = row.conversations[0]
    system = first[:1] if first[0]["role"] in ("system", "developer") else []
    conversations = [each[len(system) :] for each in row.conversations]
    while True:
        found = [_encoded(tokenizer, [*system, *each]) for each in conversations]
        lengths = [len(ids) for ids, _ in found]
        if sum(lengths) <= slots and max(lengths) <= longest:
            return found
        users = [n for n, m in enumerate(conversations[0]) if m["role"] == "user"]
        if len(users) < 2:
            return None
        conversations = [each[users[1] :] for each in conversations]


def _encoded(
    tokenizer: Tokenizer, messages: list[Message]
) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and whether each is of the last answer, its STOP included."""
    ids, trained = chat.encode_training(tokenizer, messages)
    last = np.flatnonzero(trained)[-1]
    before = np.flatnonzero(~trained[: last + 1])
    trained[: before[-1] if len(before) else 0] = False
    return ids[: last + 1], trained[: last + 1]


def _save(folder: Path, kept: list[Row], length: int) -> None:
    """The row index, and what is beside it."""
    counts = [len(row.conversations) for row in kept]
    documents = np.asarray(shards.Tokens(folder).documents)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows.save(rows.Rows(documents, starts, length), folder)
    most = max(counts)
    for name, kind in (("ranks", np.int32), ("values", np.float32)):
        table = np.zeros((len(kept), most), kind)
        for number, row in enumerate(kept):
            table[number, : counts[number]] = getattr(row, name)
        np.save(folder / f"{name}.npy", table)


def _describe(summary: dict[str, Any]) -> str:
    lines = [summary["left_out"]] if summary["left_out"] else []
    if summary["too_long"]:
        lines.append(
            f"{summary['too_long']:,} comparisons are longer than a row of"
            f" {summary['row_length']} tokens and left out"
        )
    for split in SPLITS:
        n = summary[split]
        lines.append(
            f"  {split}: {n['rows']:,} comparisons, {n['documents']:,} answers,"
            f" {n['tokens']:,} tokens, of which {n['trained']:,} are an answer's"
        )
    return "\n".join(lines)
