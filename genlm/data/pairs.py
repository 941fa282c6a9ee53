"""PAIRS: rows of a query and the passage that answers it -> what to train on and what
to hold out.

Before: paths from a config. After: batches of pairs (retrieval). Passages that belong
together (one article's, or the same text) stand on one side of the split, or what is
held out would have been read in training. A row that cannot be read is an error with
its line.
"""

import dataclasses
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import numpy as np

from genlm.data import conversations, docstrings, download, sources
from genlm.data.dedup import Key
from genlm.errors import UserError, require_text

SPLITS = ("hash", "last")
EMBEDDED = "embedded:python"  # of docstrings: what it does, and its name
ID, TEXT = "id", "text"  # fields of a file of passages


class Pairs(NamedTuple):
    """Queries, the place of each one's passage, and the passages, each once."""

    queries: list[str]
    own: np.ndarray  # [queries] int64, into `passages`
    passages: list[str]


@dataclasses.dataclass(frozen=True)
class PairsConfig:
    """Where the pairs stand, and what is held out.

    passage: the field of a passage's text or, where `passages` names files of passages
    (fields id and text), of its id.
    group: a field of what holds the passage's text; those that have the same are held
    out together. Empty: each passage by itself.
    split: what is held out is drawn by 'hash', or the 'last' groups in their order.
    """

    paths: str
    passages: str
    query: str
    passage: str
    group: str
    split: str
    valid_fraction: float

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UserError(f"data.split {self.split!r} is not one of {SPLITS}")
        if not 0 < self.valid_fraction < 1:
            raise UserError("data.valid_fraction is not between 0 and 1")


class _Passage(NamedTuple):
    text: str
    group: str


def read(
    config: PairsConfig, report: download.Report = download.silent
) -> tuple[Pairs, Pairs]:
    """The pairs to train on, and those held out.

    Raises:
      UserError: a row that is no pair (names it), or one side of the split is empty.
    """
    passages: dict[str, _Passage] = {}  # by id, or by their text
    asked: list[tuple[str, str]] = []  # (query, key of its passage)
    if config.paths == EMBEDDED:
        for entry in docstrings.entries():
            passages[entry.full_name] = _Passage(entry.full_name, entry.module)
            asked.append((entry.sentence, entry.full_name))
    else:
        if config.passages:
            passages = _read_passages(config, report)
        asked = list(_read_pairs(config, passages, report))
    groups = list(dict.fromkeys(passage.group for passage in passages.values()))
    held_out = _held_out(groups, config)
    parts = [
        _part(passages, asked, {g for g in groups if (g in held_out) == is_held_out})
        for is_held_out in (False, True)
    ]
    for part, name in zip(parts, ("train on", "hold out")):
        if not part.queries:
            raise UserError(f"data.paths: there is no pair to {name}; take more pairs")
    return parts[0], parts[1]


def files(config: PairsConfig) -> list[Path]:
    """Everything that is read; nothing of the embedded pairs."""
    if config.paths == EMBEDDED:
        return []
    named = [config.paths, config.passages] if config.passages else [config.paths]
    return [path for paths in named for path in sources.resolve(paths)]


def _read_passages(config: PairsConfig, report: download.Report) -> dict[str, _Passage]:
    found: dict[str, _Passage] = {}
    for row, where in _rows(config.passages, report):
        key = _text(row, ID, where)
        if key in found:
            raise UserError(f"{where}: a passage with the id {key!r} stood before")
        found[key] = _passage(row, TEXT, config.group, where)
    return found


def _read_pairs(
    config: PairsConfig, passages: dict[str, _Passage], report: download.Report
) -> Iterator[tuple[str, str]]:
    """(query, key of its passage); passages that rows hold themselves are added."""
    for row, where in _rows(config.paths, report):
        key = _text(row, config.passage, where)
        if not config.passages:
            passages.setdefault(key, _passage(row, config.passage, config.group, where))
        elif key not in passages:
            raise UserError(f"{where}: data.passages has no passage {key!r}")
        yield _text(row, config.query, where), key


def _rows(paths: str, report: download.Report) -> Iterator[tuple[dict, str]]:
    for path in sources.resolve(paths, report):
        for row in conversations.rows(path):
            where = f"{path}:{row.number}"
            if row.problem or not isinstance(row.value, dict):
                raise UserError(f"{where}: {row.problem or 'no object with fields'}")
            yield row.value, where


def _passage(row: dict[str, Any], field: str, group: str, where: str) -> _Passage:
    text = _text(row, field, where)
    return _Passage(text, _text(row, group, where) if group else text)


def _text(row: dict[str, Any], field: str, where: str) -> str:
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        has = ", ".join(row) or "none"
        raise UserError(f"{where}: no text in the field {field!r}; its fields: {has}")
    require_text(text, f"{where}: its {field}")
    return text


def _held_out(groups: list[str], config: PairsConfig) -> set[str]:
    """A share of the groups, one at the least."""
    count = max(1, round(config.valid_fraction * len(groups)))
    if config.split == "hash":
        groups = sorted(groups, key=lambda group: Key(group).value())
    return set(groups[len(groups) - count :])


def _part(
    passages: dict[str, _Passage], asked: list[tuple[str, str]], groups: set[str]
) -> Pairs:
    """The pairs whose passage is of these groups, and all passages that are."""
    kept = {key: p.text for key, p in passages.items() if p.group in groups}
    place = {key: number for number, key in enumerate(kept)}
    inside = [(query, place[key]) for query, key in asked if key in place]
    return Pairs(
        [query for query, _ in inside],
        np.array([number for _, number in inside], np.int64),
        list(kept.values()),
    )
