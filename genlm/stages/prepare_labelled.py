"""PREPARE LABELLED: texts and their classes -> token shards with a class after each.

Before: data.labelled, and the tokenizer of the model that is trained further, or one of
its own. After: classify. A document is [BOS] text STOP CLASS: the number of the class
is written as if it were a token, so that rows are packed as any others are, and the
target at STOP, the only one that is trained on, is the class. As an input that last
slot is never seen by anything that counts.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, Iterator

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.data import kinds, labelled, rows, shards, sources
from genlm.data.dedup import Key
from genlm.data.labelled import Label, Labelled, Part
from genlm.data.reading import Reading
from genlm.errors import UserError
from genlm.runs import directory, lineage
from genlm.runs.progress import Bars, track
from genlm.stages import prepare, rerun
from genlm.stages.prepare import SPLITS, TokenizerConfig
from genlm.tokenizer.base import Tokenizer

KEYS = "keys.npy"  # [documents] uint64 in each split: the hash of each text


@dataclasses.dataclass(frozen=True)
class LabelledDataConfig:
    """What to read; see data.labelled. keep: of texts longer than a row."""

    paths: str
    valid_paths: str
    text_field: str
    label_field: str
    valid_fraction: float
    row_length: int
    keep: str
    prepared: str = ""  # a finished run of this kind to use instead

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise UserError("data.valid_fraction is not between 0 and 1")
        self.reading()

    def reading(self) -> Reading:
        return Reading(self.row_length, self.keep)


def read(config: ConfigDict) -> tuple[LabelledDataConfig, TokenizerConfig]:
    """What this reads of a config, checked."""
    return (
        configs.to_dataclass(LabelledDataConfig, config.data),
        configs.to_dataclass(TokenizerConfig, config.tokenizer),
    )


def run(config: ConfigDict, workdir: Path, source: Path | None) -> None:
    """Write workdir/tokens/{tokenizer, train, valid, summary.json} and its lineage.

    Args:
      source: the run whose model is trained further, and whose tokenizer is taken;
        None: that of config.tokenizer.
    """
    data, tokenizer_config = read(config)
    if source is not None:
        tokenizer_config = TokenizerConfig("run", 1, 1, str(source))
    own = ConfigDict({"stage": "prepare_labelled", "seed": config.seed})
    own.data = config.data
    if source is None:
        own.tokenizer = config.tokenizer
    rerun.check_kind(own, workdir)
    inputs = {**_inputs(data, workdir), **prepare.of_tokenizer(tokenizer_config)}
    if rerun.is_finished(own, workdir, inputs):
        return
    directory.create(workdir)
    with Bars("bytes") as bars:
        found = labelled.read(
            data.paths,
            text_field=data.text_field,
            label_field=data.label_field,
            valid_fraction=data.valid_fraction,
            valid_paths=data.valid_paths,
            seed=config.seed,
            report=bars.report,
        )
    print(found.describe(), flush=True)
    tokenizer = prepare.make_tokenizer(
        tokenizer_config,
        _sample(found.train.texts, tokenizer_config.sample_bytes),
        config.seed,
    )

    def write(folder: Path) -> dict[str, Any]:
        return _write(data, found, tokenizer, folder)

    summary = prepare.fill(workdir, own, inputs, tokenizer, write)
    print(_describe(summary), flush=True)


def _inputs(data: LabelledDataConfig, workdir: Path) -> dict[str, Any]:
    """Lineage entries of the files; of what the installation holds, its sources."""
    named = [data.paths, *filter(None, [data.valid_paths])]
    files = prepare.named_files(named, {kinds.EMBEDDED: kinds.files})
    return lineage.of_inputs(files, lineage.read(workdir).get("inputs", {}))


def _sample(texts: list[str], num_bytes: int) -> Iterator[str]:
    """The first texts, of about so many bytes."""
    sizes = itertools.accumulate(len(text.encode()) for text in texts)
    return (text for text, size in zip(texts, sizes) if size <= num_bytes)


def _write(
    data: LabelledDataConfig, found: Labelled, tokenizer: Tokenizer, folder: Path
) -> dict[str, Any]:
    """Write shards and row indexes of both splits; returns the summary."""
    names = class_names(found.classes)
    if len(names) >= tokenizer.vocab_size:
        raise UserError(
            f"data.{data.label_field!r} has {len(names):,} classes, and a class is"
            f" written as one of {tokenizer.vocab_size:,} tokens; is it a label?"
        )
    shortened, indexes = 0, {}
    for split, part in zip(SPLITS, (found.train, found.valid)):
        writer = shards.Writer(folder / split, tokenizer.vocab_size, weighted=True)
        with writer:
            shortened += _write_part(writer, part, data.reading(), tokenizer, split)
            indexes[split] = writer.close()
        keys = [Key(text).value() for text in part.texts]
        np.save(folder / split / KEYS, np.asarray(keys, np.uint64))
        packed = rows.index(shards.Tokens(folder / split).documents, data.row_length)
        rows.save(packed, folder / split)
        indexes[split]["rows"] = len(packed)
    is_embedded = data.paths == kinds.EMBEDDED
    return {
        "source": data.paths,
        "licence": kinds.LICENCE if is_embedded else sources.licence(data.paths),
        "classes": names,
        "counts": list(found.counts().values()),  # [classes] of (train, valid)
        "duplicates": found.repeats,
        "disputed": found.disputed,
        "shared": found.shared,
        "shortened": shortened,
        "vocab_size": tokenizer.vocab_size,
        "row_length": data.row_length,
        "keep": data.keep,
        **indexes,
    }


def class_names(classes: tuple[Label, ...]) -> list[str]:
    """The classes as people read them; in JSON where two would read alike."""
    names = [labelled.spelled(each) for each in classes]
    if len(set(names)) == len(names):
        return names
    return [json.dumps(each, ensure_ascii=False) for each in classes]


def _write_part(
    writer: shards.Writer,
    part: Part,
    reading: Reading,
    tokenizer: Tokenizer,
    split: str,
) -> int:
    """Write the documents of a split; how many of them were shortened."""
    shortened = 0
    pairs = zip(part.texts, part.labels)
    for text, label in track(pairs, f"tokenize {split}", len(part.texts), "texts"):
        ids, is_cut = reading.ids(tokenizer, text)
        shortened += is_cut
        document = np.append(ids, label)
        is_trained = np.arange(len(document)) == len(ids)
        writer.add(document, is_trained, len(text.encode()))
    return shortened


def _describe(summary: dict[str, Any]) -> str:
    lines = []
    if summary["shortened"]:
        lines.append(
            f"{summary['shortened']:,} texts are longer than a row of"
            f" {summary['row_length']} tokens; of these the {summary['keep']} is read"
        )
    for split in SPLITS:
        n = summary[split]
        lines.append(
            f"  {split}: {n['documents']:,} texts, {n['tokens']:,} tokens,"
            f" {n['rows']:,} rows"
        )
    return "\n".join(lines)
