"""LABELLED TEXT: rows of a text and its class -> what to train on and to validate on.

Before: paths from a config. After: classification. A row that cannot be read is an
error with its line: with a class wrong or missing, less data is not the same data. The
same text twice would be trained on and validated on, so each counts once.
"""

from collections import Counter
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import numpy as np

from genlm.data import conversations, download, kinds, sources
from genlm.data.dedup import Key
from genlm.errors import UserError, require_text

TEXT, LABEL = "text", "label"
_TEXTS = (TEXT, "sentence", "content", "review", "message", "input", "query")
_LABELS = (LABEL, "labels", "class", "category", "target", "sentiment", "intent")

Label = str | int | float | bool


class Part(NamedTuple):
    """Texts and, for each, the number of its class."""

    texts: list[str]
    labels: np.ndarray  # [rows] int64, into `classes`


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Classes in sorted order, the two parts, and what was left out on the way."""

    classes: tuple[Label, ...]
    train: Part
    valid: Part
    repeats: int  # rows whose text stood before
    disputed: int  # texts that had several labels
    shared: int  # texts of the training files that are validated on

    def counts(self) -> dict[str, tuple[int, int]]:
        """Rows to train on and rows to validate on, of each class."""
        sizes = [
            np.bincount(part.labels, minlength=len(self.classes)).tolist()
            for part in (self.train, self.valid)
        ]
        return {spelled(name): pair for name, pair in zip(self.classes, zip(*sizes))}

    def describe(self) -> str:
        """What was read, in a few lines."""
        classes = ", ".join(f"{n} {a:,} + {b:,}" for n, (a, b) in self.counts().items())
        lines = [
            f"{len(self.train.texts):,} texts to train on and {len(self.valid.texts):,}"
            f" to validate on, of {len(self.classes)} classes: {classes}"
        ]
        if self.repeats:
            lines.append(f"left out {self.repeats:,} rows whose text stood before")
        if self.disputed:
            lines.append(
                f"{self.disputed:,} texts have several labels; each keeps the one that"
                " most of its rows have, of equals the first"
            )
        if self.shared:
            lines.append(f"left out of training {self.shared:,} texts validated on")
        return "\n".join(lines)


def read(
    paths: str,
    *,
    text_field: str = TEXT,
    label_field: str = LABEL,
    valid_fraction: float = 0.1,
    valid_paths: str = "",
    seed: int = 0,
    report: download.Report = download.silent,
) -> Labelled:
    """The texts of JSON lines (or arrays), or of data.kinds, by class, split.

    Args:
      text_field, label_field: where a file has not the usual ones, others that are
        common are looked for; any other name must be there.
      valid_fraction: of each class; the rows of lowest hash under the `seed`, at least
        one of a class of two. Not used where `valid_paths` are given.

    Raises:
      UserError: a row without text or label (names it), fewer than two classes, or a
        class that is validated on and never trained on.
    """
    fields = text_field, label_field
    train = _Pile(_read(paths, fields, report))
    valid = _Pile(_read(valid_paths, fields, report) if valid_paths else iter(()))
    shared = train.label_of.keys() & valid.label_of.keys()
    classes = _classes(train.label_of, valid.label_of)
    if valid_paths:
        held_out = valid.label_of
    else:
        held_out = _held_out(train.label_of, valid_fraction, seed)
    kept = {text: n for text, n in train.label_of.items() if text not in held_out}
    _check(classes, kept, held_out)
    return Labelled(
        classes=tuple(json.loads(name) for name in classes),
        train=_part(kept, classes),
        valid=_part(held_out, classes),
        repeats=train.repeats + valid.repeats,
        disputed=train.disputed + valid.disputed,
        shared=len(shared),
    )


def spelled(label: Label) -> str:
    """A class as people read it."""
    return label if isinstance(label, str) else json.dumps(label)


class _Pile:
    """The label of each text, in the spelling of JSON, which tells 1 from true and from
    "1"."""

    def __init__(self, pairs: Iterator[tuple[str, str]]):
        votes: dict[str, Counter[str]] = {}
        for text, label in pairs:
            votes.setdefault(text, Counter())[label] += 1
        self.repeats = sum(v.total() for v in votes.values()) - len(votes)
        self.disputed = sum(len(v) > 1 for v in votes.values())
        # of equal counts the first that came is the most common
        self.label_of = {text: v.most_common(1)[0][0] for text, v in votes.items()}


def _read(
    paths: str, fields: tuple[str, str], report: download.Report
) -> Iterator[tuple[str, str]]:
    """(text, label in JSON) of all that `paths` names."""
    if paths == kinds.EMBEDDED:
        yield from ((text, json.dumps(kind)) for text, kind in kinds.read())
        return
    for path in sources.resolve(paths, report):
        yield from _rows(path, fields)


def _rows(path: Path, fields: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """(text, label in JSON) of a file's rows, whose first one tells the fields."""
    text_field, label_field = fields
    is_first = True
    for row in conversations.rows(path):
        where = f"{path}:{row.number}"
        if row.problem or not isinstance(row.value, dict):
            raise UserError(f"{where}: {row.problem or 'no object with fields'}")
        if is_first:
            text_field = _field(row.value, text_field, TEXT, _TEXTS, where)
            label_field = _field(row.value, label_field, LABEL, _LABELS, where)
            is_first = False
        label = _label(row.value, label_field, where)
        yield _text(row.value, text_field, where), label
    if is_first:
        raise UserError(f"{path}: it has no row")


def _field(
    row: dict, name: str, usual: str, common: tuple[str, ...], where: str
) -> str:
    """The field that is named; where that is the usual one, another that is common."""
    found = [n for n in (common if name == usual else (name,)) if n in row]
    if not found:
        raise UserError(
            f"{where}: no field {name!r}; its fields are {', '.join(row) or 'none'};"
            f" set data.{usual}_field to one of them"
        )
    return found[0]


def _text(row: dict, field: str, where: str) -> str:
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: its {field} is {str(text)[:40]!r}, no text")
    require_text(text, f"{where}: its {field}")
    return text


def _label(row: dict, field: str, where: str) -> str:
    label = row.get(field)
    if not isinstance(label, Label) or label == "":
        raise UserError(
            f"{where}: its {field} is {str(label)[:40]!r}; a label is a text, a"
            " number, or true or false"
        )
    if isinstance(label, float) and not math.isfinite(label):
        raise UserError(f"{where}: its {field} is {label}, which is no class")
    require_text(str(label), f"{where}: its {field}")
    return json.dumps(label, ensure_ascii=False)


def _classes(*labels: dict[str, str]) -> list[str]:
    """Every label, in JSON: false and true, then numbers by size, then texts."""

    def order(name: str) -> tuple[int, Any]:
        label = json.loads(name)
        return (2 if isinstance(label, str) else not isinstance(label, bool)), label

    return sorted({name for part in labels for name in part.values()}, key=order)


def _held_out(label_of: dict[str, str], fraction: float, seed: int) -> dict[str, str]:
    """Of each class the texts of lowest hash; of a class of one text none."""
    by_class: dict[str, list[str]] = {}
    for text, label in label_of.items():
        by_class.setdefault(label, []).append(text)
    chosen = set()
    for texts in by_class.values():
        count = min(max(round(fraction * len(texts)), 1), len(texts) - 1)
        chosen |= set(sorted(texts, key=lambda t: Key(f"{seed} {t}").value())[:count])
    return {text: label for text, label in label_of.items() if text in chosen}


def _check(classes: list[str], train: dict[str, str], valid: dict[str, str]) -> None:
    if len(classes) < 2:
        raise UserError(
            f"data.paths: every label is {classes[0]}; two classes at least"
        )
    trained = set(train.values())
    if only := [name for name in classes if name not in trained]:
        raise UserError(
            f"data.valid_paths: no text to train on has the class {', '.join(only)}"
        )
    if not valid:
        raise UserError("data.paths: each class has one text, so that none is held out")


def _part(label_of: dict[str, str], classes: list[str]) -> Part:
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[label] for label in label_of.values()], np.int64)
    return Part(list(label_of), labels)
