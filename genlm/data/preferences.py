"""PREFERENCES: files of what people preferred -> judgements, and the pairs they make.

Before: paths from a config. After: reward models and preference training. A row that is
no preference is left out, counted, and named with its line and the reason. A pair that
says nothing of what is better is left out and counted.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

from genlm.data import download, sources, synthetic_pairs
from genlm.data.conversations import Say, fitting, to_stderr
from genlm.data.preference_forms import PREFERENCES, Judged


class Comparison(NamedTuple):
    """Two answers, the better one first. margin: by how much of the scores, where
    there are scores; else 0."""

    better: str
    worse: str
    margin: float


@dataclasses.dataclass
class LeftOut:
    """How many pairs of answers say nothing of what is better, by why, and how many
    judgements are left without a pair."""

    same: int = 0
    empty: int = 0
    ties: int = 0
    bare: int = 0

    def describe(self) -> str:
        """One line of what is counted; '' where nothing is."""
        told = {
            "of the same text": self.same,
            "with an empty answer": self.empty,
            "tied": self.ties,
        }
        parts = [f"{count:,} {what}" for what, count in told.items() if count]
        line = f"left out pairs: {', '.join(parts)}" if parts else ""
        if self.bare:
            bare = f"{self.bare:,} judgements give no pair"
            line = f"{line}; {bare}" if line else bare
        return line


def read(
    paths: str,
    form: str = "auto",
    strict: bool = False,
    say: Say = to_stderr,
    report: download.Report = download.silent,
) -> Iterator[Judged]:
    """Judgements of comma-separated paths, globs and URLs, in order, or
    `embedded:preferences`.

    Args:
      form: one of PREFERENCES, or 'auto': that of a file's first row that fits.
      strict: make the first row that is no preference an error.
      say: what is told of the rows left out.

    Raises:
      UserError: a file that cannot be read, or holds no preference; no such form.
    """
    PREFERENCES.require(form)
    if paths == synthetic_pairs.EMBEDDED:
        yield from synthetic_pairs.read()
    else:
        yield from read_files(sources.resolve(paths, report), form, strict, say)


def read_files(
    files: Iterable[Path],
    form: str = "auto",
    strict: bool = False,
    say: Say = to_stderr,
) -> Iterator[Judged]:
    """Judgements of files, in order; see `read`."""
    for path in files:
        for line, found in fitting(path, PREFERENCES, form, strict, say):
            for judged in found:
                yield judged._replace(file=str(path), line=line)


def comparisons(judged: Judged, left_out: LeftOut) -> list[Comparison]:
    """The pairs of answers of which one is better; `left_out` counts the others.

    Of a single answer, which was marked, there is none.
    """
    scores = judged.scores or (0.0,) * len(judged.answers)
    answers = list(zip(judged.ranks, judged.answers, scores))
    found = []
    for one, other in itertools.combinations(answers, 2):
        (rank, better, high), (lower, worse, low) = sorted((one, other))
        if better == worse:
            left_out.same += 1
        elif not better.strip() or not worse.strip():
            left_out.empty += 1
        elif rank == lower:
            left_out.ties += 1
        else:
            found.append(Comparison(better, worse, high - low))
    left_out.bare += not found
    return found
