"""AUTHORED TEXT: a string that knows who wrote each of its characters.

Before: a chat template and messages. After: chat, where only what the template itself
wrote may become a control token, and what an assistant said is trained on. A plain
`str` counts as written by somebody else, and so does what a method returns that is not
overridden here: what is forgotten costs a control token and never lets one be forged.
"""

import itertools
from typing import Iterable, SupportsIndex

OTHER, TEMPLATE, ANSWER = 0, 1, 2  # who wrote it; ANSWER: the assistant


class Authored(str):
    """A string with a mark for each character: its author."""

    _marks: bytes

    def __new__(cls, text: str = "", marks: bytes | None = None) -> "Authored":
        self = super().__new__(cls, text)
        self._marks = bytes(len(self)) if marks is None else marks
        return self

    def __str__(self) -> str:  # jinja calls str() on whatever it puts out
        return self

    def __add__(self, other: str) -> str:
        return join((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return join((other, self)) if isinstance(other, str) else NotImplemented

    def __getitem__(self, key: SupportsIndex | slice) -> "Authored":
        part = key if isinstance(key, slice) else slice(key, int(key) + 1 or None)
        return Authored(super().__getitem__(key), self._marks[part])

    def strip(self, chars: str | None = None, /) -> "Authored":
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> "Authored":
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> "Authored":
        return self[: len(super().rstrip(chars))]

    def split(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[str]:
        return self._located(super().split(sep, maxsplit), len(sep or ""))

    def rsplit(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[str]:
        return self._located(super().rsplit(sep, maxsplit), len(sep or ""))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return super().replace(old, new, count)
        return join(self.split(old, count), new)

    def join(self, parts: Iterable[str], /) -> str:
        return join(parts, self)

    def _located(self, pieces: list[str], gap: int) -> list[str]:
        """`pieces` of this text with their marks: in order, `gap` characters apart, or
        as much whitespace as there is where `gap` is 0."""
        found: list[str] = []
        end = -gap
        for piece in pieces:
            start = end + gap if gap else self.find(piece, end)
            end = start + len(piece)
            found.append(self[start:end])
        return found


def own(text: str) -> Authored:
    """`text`, all of it the template's."""
    return Authored(text, bytes([TEMPLATE]) * len(text))


def answer(text: str) -> Authored:
    """`text`, all of it the assistant's."""
    return Authored(text, bytes([ANSWER]) * len(text))


def join(parts: Iterable[str], between: str = "") -> Authored:
    """The parts with `between` between them; each keeps its marks."""
    parts = list(parts)
    marks = _marks_of(between).join(map(_marks_of, parts))
    return Authored(str.join(str.__str__(between), parts), marks)


def runs(text: str) -> list[tuple[str, int]]:
    """`text` cut where its author changes: (run, author)."""
    marks, plain = _marks_of(text), str.__str__(text)
    cut: list[tuple[str, int]] = []
    at = 0
    for author, group in itertools.groupby(marks):
        end = at + sum(1 for _ in group)
        cut.append((plain[at:end], author))
        at = end
    return cut


def _marks_of(text: str) -> bytes:
    return text._marks if isinstance(text, Authored) else bytes(len(text))
