"""PREPARE: raw text -> a tokenizer, token shards and row indexes.

Two readings, so that memory stays bounded: the first hashes every cleaned document
(for exact deduplication and the split) and draws the tokenizer's training sample; the
second writes tokens. The folder is filled beside its place and renamed into it, so
that half a corpus is never taken for whole.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping

from ml_collections import ConfigDict

from genlm import config as configs
from genlm import tokenizer as tokenizers
from genlm.data import clean, embedded, rows, shards, sources
from genlm.data.survey import Survey
from genlm.errors import UserError
from genlm.runs import directory, lineage
from genlm.runs.progress import Bars, track
from genlm.stages import rerun
from genlm.tokenizer.base import Tokenizer
from genlm.tokenizer.byte import ByteTokenizer

TOKENS = "tokens"  # the folder of the result, within the run
SPLITS = ("train", "valid")
TRAIN_TOKENS = f"{TOKENS}/train/tokens-*.bin"
READS = ("seed", "data", "tokenizer")
_FAR = 3.0  # so many times what was asked for is said


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What to read and how to cut it; see data.sources for `document`."""

    paths: str
    document: str
    clean: bool
    dedup: bool
    valid_fraction: float
    row_length: int
    # read by later stages: finished prepare runs, to use instead and to replay
    prepared: str = ""
    replay: str = ""
    replay_share: float = 0.0  # of all rows

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise UserError("data.valid_fraction is not between 0 and 1")
        if self.row_length < 1:
            raise UserError("data.row_length is not positive")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """kind: 'byte', 'bpe' or 'unigram' (these two learnt from a sample), or 'run'."""

    kind: str
    vocab_size: int  # of 'bpe' and 'unigram'
    sample_bytes: int  # about as much text is learnt from
    source: str = ""  # of 'run': the run whose tokenizer it is

    def __post_init__(self) -> None:
        if self.kind not in ("byte", "bpe", "unigram", "run"):
            raise UserError(f"tokenizer.kind {self.kind!r}: byte, bpe, unigram or run")
        if (self.kind == "run") != bool(self.source):
            raise UserError(
                "tokenizer.source is a run's folder with tokenizer.kind=run"
            )
        if self.vocab_size < 1 or self.sample_bytes < 1:
            raise UserError("tokenizer.vocab_size or sample_bytes is not positive")


class Prepared:
    """A finished prepare run, opened.

    Raises:
      UserError: it is none, or is damaged. Every file is held against its hash but the
        training tokens, which may be large: `genlm verify` reads those.
    """

    def __init__(self, path: Path):
        self.folder = path / TOKENS
        if not (lineage.read(path).get("outputs") and self.folder.is_dir()):
            inside = (path / "data" / TOKENS).is_dir()
            hint = f"; did you mean {path / 'data'}?" if inside else ""
            raise UserError(
                f"data.prepared: {path} is not a finished prepare run{hint}"
            )
        outputs = lineage.read(path)["outputs"]
        small = {n: h for n, h in outputs.items() if not Path(n).match(TRAIN_TOKENS)}
        if changed := lineage.changed(path, small):
            raise UserError(f"damaged: {changed[0]}; prepare it anew")
        self.tokenizer: Tokenizer = tokenizers.load(self.folder / "tokenizer")
        self.summary = directory.read_json(self.folder / "summary.json")
        for name in SPLITS:  # what is damaged shows now, not after an hour
            self.split(name)
        self.inputs = {str(path): {"sha256": lineage.digest(outputs)}}

    def split(self, name: str) -> tuple[shards.Tokens, rows.Rows]:
        return shards.Tokens(self.folder / name), rows.load(self.folder / name)


def read(config: ConfigDict) -> tuple[DataConfig, TokenizerConfig]:
    """What this stage reads of a config, checked."""
    return (
        configs.to_dataclass(DataConfig, config.data),
        configs.to_dataclass(TokenizerConfig, config.tokenizer),
    )


def run(config: ConfigDict, workdir: Path) -> None:
    """Write workdir/tokens/{tokenizer, train, valid, summary.json} and its lineage."""
    data, tokenizer_config = read(config)
    own = ConfigDict({k: config[k] for k in ("seed", "data", "tokenizer")})
    own.stage = "prepare"
    rerun.check_kind(own, workdir)
    try:
        files = named_files([data.paths], {sources.EMBEDDED: embedded.files})
    except UserError as error:
        before = lineage.read(workdir).get("inputs", {})
        is_gone = not any(Path(name).exists() for name in before)
        if not (is_gone and rerun.is_finished(own, workdir, before)):
            raise
        print(f"{error}; going on with what was prepared from it", flush=True)
        return
    read_before = lineage.of_inputs(files, lineage.read(workdir).get("inputs", {}))
    inputs = {**read_before, **of_tokenizer(tokenizer_config)}
    if rerun.is_finished(own, workdir, inputs):
        return
    directory.create(workdir)
    is_learnt = tokenizer_config.kind in ("bpe", "unigram")
    sampled = tokenizer_config.sample_bytes if is_learnt else 0
    survey = Survey.of(
        (document for _, document in _documents(data, files, "read")),
        total_bytes=0 if data.paths == sources.EMBEDDED else _size(read_before),
        sample_bytes=sampled,
        dedup=data.dedup,
        valid_fraction=data.valid_fraction,
    )
    tokenizer = make_tokenizer(tokenizer_config, survey.sample, config.seed)

    def write(folder: Path) -> dict[str, Any]:
        return _write(data, files, survey, tokenizer, folder)

    summary = fill(workdir, own, inputs, tokenizer, write)
    print(_describe(summary, data.valid_fraction), flush=True)


def fill(
    workdir: Path,
    own: ConfigDict,
    inputs: dict[str, Any],
    tokenizer: Tokenizer,
    write: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """Write workdir/tokens and its lineage, whole or not at all; returns the summary.

    Args:
      own: the config that the folder is made from.
      inputs: lineage entries of what is read.
      write: fills a folder, but for the tokenizer, and returns the summary.

    Raises:
      UserError: a file changed while it was read.
    """
    with directory.filling(workdir / TOKENS) as partial:
        (partial / "tokenizer").mkdir()
        tokenizer.save(partial / "tokenizer")
        summary = write(partial)
        directory.write_json(partial / "summary.json", summary)
        _check_unchanged(inputs)
        rerun.save_config(own, workdir)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, [TOKENS]))
    return summary


def named_files(
    paths: Iterable[str], embedded: Mapping[str, Callable[[], list[Path]]]
) -> list[Path]:
    """The files of several data.paths, each once; `embedded` lists those that an
    installation carries, by their name."""
    files: list[Path] = []
    with Bars("bytes") as bars:
        for each in paths:
            is_embedded = each in embedded
            files += (
                embedded[each]() if is_embedded else sources.resolve(each, bars.report)
            )
    return list(dict.fromkeys(files))


def _check_unchanged(inputs: dict[str, Any]) -> None:
    """Make sure that the files are still those whose hashes were taken."""
    before = {Path(name): e for name, e in inputs.items() if "bytes" in e}
    try:
        now = lineage.of_inputs(list(before), inputs)
    except OSError:
        now = {}
    if [e["sha256"] for e in now.values()] != [e["sha256"] for e in before.values()]:
        raise UserError("data.paths: a file changed while it was read; run again")


def _size(inputs: dict[str, Any]) -> int:
    return sum(entry["bytes"] for entry in inputs.values())


def _documents(
    data: DataConfig, files: list[Path], title: str
) -> Iterator[tuple[int, sources.Document]]:
    if data.paths == sources.EMBEDDED:
        documents = embedded.read()
    else:
        documents = sources.read_files(files, data.document)
    for number, document in enumerate(track(documents, title, None, "documents")):
        yield number, clean.clean_document(document) if data.clean else document


def make_tokenizer(
    config: TokenizerConfig, sample: Iterable[str], seed: int
) -> Tokenizer:
    """The tokenizer that a config names, learnt from `sample` if it is of that kind."""
    if config.kind == "byte":
        return ByteTokenizer()
    if config.kind == "run":
        return tokenizers.load(_source(config) / "tokenizer")
    from genlm.tokenizer import sentence_piece

    return sentence_piece.train(
        sample, vocab_size=config.vocab_size, algorithm=config.kind, seed=seed
    )


def of_tokenizer(config: TokenizerConfig) -> dict[str, Any]:
    """The hash of the run whose tokenizer is taken, for the lineage."""
    if config.kind != "run":
        return {}
    source = _source(config)
    outputs = lineage.read(source).get("outputs")
    return {str(source): {"sha256": lineage.digest(outputs)}}


def _source(config: TokenizerConfig) -> Path:
    from genlm.interop.run import find  # loads jax

    return find(Path(config.source))


def _write(
    data: DataConfig,
    files: list[Path],
    survey: Survey,
    tokenizer: Tokenizer,
    folder: Path,
) -> dict[str, Any]:
    """Write shards and row indexes of both splits; returns the summary."""
    bos, stop = tokenizer.special.bos, tokenizer.special.stop
    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                shards.Writer(folder / split, tokenizer.vocab_size)
            )
            for split in SPLITS
        }
        for number, document in _documents(data, files, "tokenize"):
            opened: set[str] = set()
            for split, text in survey.split(number, document.parts()):
                writer = writers[split]
                if split not in opened:
                    opened.add(split)
                    writer.begin(bos)
                raw = text.encode("utf-8", "surrogatepass")
                writer.append(tokenizer.encode(raw), len(raw))
            for split in opened:
                writers[split].end(stop)
        indexes = {split: writer.close() for split, writer in writers.items()}
    if (tokens := indexes["train"]["tokens"]) <= data.row_length:
        raise UserError(
            f"data.paths: the training text has {tokens} tokens, not enough for one row"
            f" of {data.row_length}; set data.row_length to {tokens - 1} or less"
        )
    for split, index in indexes.items():
        documents = shards.Tokens(folder / split).documents
        packed = rows.index(documents, data.row_length)
        rows.save(packed, folder / split)
        index["rows"] = len(packed)
    return {
        "source": data.paths,
        "licence": sources.licence(data.paths),
        "duplicates": survey.duplicates,
        "vocab_size": tokenizer.vocab_size,
        "row_length": data.row_length,
        **indexes,
    }


def _describe(summary: dict[str, Any], asked: float) -> str:
    lines = [f"{summary['source']}: {summary['duplicates']} duplicates left out"]
    sizes = [summary[split]["bytes"] for split in SPLITS]
    share = sizes[1] / sum(sizes)
    if not asked / _FAR < share < asked * _FAR:
        lines.append(
            f"  note: {share:.0%} of the text is held out, where {asked:.0%} was asked"
            " for: documents are held out whole, and here are few; smaller ones come"
            " closer, such as data.document=blank_line or line"
        )
    for split in SPLITS:
        n = summary[split]
        each = n["bytes"] / n["tokens"]
        lines.append(
            f"  {split}: {n['documents']:,} documents, {n['bytes']:,} bytes,"
            f" {n['tokens']:,} tokens ({each:.2f} bytes each), {n['rows']:,} rows"
        )
    return "\n".join(lines)
