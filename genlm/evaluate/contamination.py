"""CONTAMINATION: which rows of a task stand in the text that a run was trained on.

Before: the rows' texts, and the run's lineage, which leads to prepared data. After:
results. The rule is GPT-3's (appendix C of arXiv:2005.14165): a row was seen if 13 of
its words in a row stand in the training text, without case and punctuation; a shorter
row must stand there whole. The training text is read once, a part at a time.
"""

import dataclasses
import itertools
from pathlib import Path
import re
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from genlm import tokenizer as tokenizers
from genlm.data.shards import Tokens
from genlm.runs import lineage
from genlm.runs.progress import Bar

LONGEST = 13  # words that are looked for together
SHORTEST = 4  # fewer stand in any large text, which says nothing
_PART = 1 << 16  # tokens that are spelt at a time
_OVERLAP = 1 << 10  # tokens, more than LONGEST words
_WORD = re.compile(r"\w+")


class Trained(NamedTuple):
    """The prepared data that a run was trained on, as far as it is in reach."""

    folders: tuple[Path, ...]
    is_whole: bool  # whether that is all it was trained on


def trained_on(run: Path) -> Trained:
    """What lineages lead to: the data of a run, and of those that it goes on from."""
    inputs = lineage.read(run).get("inputs", {})
    folders: list[Path] = []
    is_whole = bool(inputs)
    for name, entry in inputs.items():
        found = _in_reach(run, Path(name), entry["sha256"])
        if found is None:
            is_whole = False
        elif (found / "tokens" / "summary.json").exists():
            folders.append(found)
        else:
            before = trained_on(found)
            folders += before.folders
            is_whole &= before.is_whole
    return Trained(tuple(dict.fromkeys(folders)), is_whole)


def _in_reach(run: Path, path: Path, sha256: str) -> Path | None:
    """The run that was an input, where it was or beside `run`, if it is unchanged."""
    for folder in (path, run.resolve().parent / path.name):
        if folder.is_dir():
            if lineage.digest(lineage.read(folder).get("outputs")) == sha256:
                return folder
    return None


def check(texts: Sequence[str], trained: Trained) -> "Seen | None":
    """Which of `texts` were trained on; None where no data is in reach."""
    if not trained.folders:
        return None
    grams = _Grams(texts)
    for folder in trained.folders:
        for words in _parts(folder / "tokens"):
            grams.look(words)
    return Seen(grams.seen, grams.are_long, trained)


@dataclasses.dataclass(frozen=True)
class Seen:
    """Of each text, whether it was seen, and whether it is long enough to tell."""

    seen: np.ndarray
    are_long: np.ndarray
    trained: Trained

    def of(self, rows: slice) -> dict[str, Any]:
        """For results.json: the share of some texts that was seen."""
        long = int(self.are_long[rows].sum())
        seen = int(self.seen[rows].sum())
        return {
            "share": seen / long if long else 0.0,
            "seen": seen,
            "rows": long,
            "too_short": len(self.are_long[rows]) - long,
            "is_whole": self.trained.is_whole,
        }


class _Grams:
    """Runs of words of `texts`, as sorted hashes; `look` notes which occur."""

    def __init__(self, texts: Sequence[str]):
        words = [_WORD.findall(text.lower()) for text in texts]
        known = dict.fromkeys(itertools.chain.from_iterable(words))
        self._ids = {word: n for n, word in enumerate(known, 1)}
        random = np.random.default_rng(0)
        self._values = random.integers(0, 1 << 63, len(known) + 1, np.uint64)
        self._factors = random.integers(0, 1 << 63, LONGEST, np.uint64) | np.uint64(1)
        self.are_long = np.asarray([len(w) >= SHORTEST for w in words], bool)
        self.seen = np.zeros(len(words), bool)
        hashes: dict[int, list[tuple[np.ndarray, int]]] = {}
        for owner, each in enumerate(words):
            if self.are_long[owner]:
                length = min(LONGEST, len(each))
                here = self._hashes(self._numbers(each), length)
                hashes.setdefault(length, []).append((here, owner))
        self._tables = {n: _table(each) for n, each in hashes.items()}

    def look(self, words: Sequence[str]) -> None:
        """Note the texts of which a run of words stands in `words`."""
        ids = self._numbers(words)
        for length, (hashes, owners) in self._tables.items():
            if len(ids) < length:
                continue
            unknown = np.concatenate([[0], np.cumsum(ids == 0)])
            whole = unknown[length:] == unknown[:-length]
            here = np.unique(self._hashes(ids, length)[whole])
            self.seen[owners[np.isin(hashes, here)]] = True

    def _numbers(self, words: Sequence[str]) -> np.ndarray:
        """A number for each word; 0 for one that no text has."""
        return np.fromiter((self._ids.get(w, 0) for w in words), np.int64, len(words))

    def _hashes(self, ids: np.ndarray, length: int) -> np.ndarray:
        """A hash of every run of `length` words, mod 2^64."""
        values, count = self._values[ids], len(ids) - length + 1
        total = np.zeros(count, np.uint64)
        for n, factor in enumerate(self._factors[:length]):
            total += values[n : n + count] * factor
        return total


def _table(each: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.concatenate([here for here, _ in each])
    owners = np.repeat([owner for _, owner in each], [len(here) for here, _ in each])
    return hashes, owners


def _parts(folder: Path) -> Iterator[list[str]]:
    """The words of the training documents, some documents or a part of one at a time;
    between two documents stands what is no word."""
    tokens, tokenizer = Tokens(folder / "train"), tokenizers.load(folder / "tokenizer")
    words: list[str] = []
    with Bar("training text", tokens.index["tokens"], unit="tokens") as bar:
        done = 0
        for shard, first, length in tokens.documents.tolist():
            for start in range(0, length, _PART):
                end = min(start + _PART + _OVERLAP, length)
                ids = tokens.shards[shard][first + start : first + end]
                text = tokenizer.decode(ids.tolist()).decode("utf-8", "replace")
                words += [*_WORD.findall(text.lower()), ""]
                done += min(_PART, length - start)
                if len(words) >= _PART:
                    yield words
                    words = []
                    bar.update(done)
        yield words
