"""AGREEMENT: who ranked the same answers -> how far they agree.

Before: rankings of a store, or judgements of files. After: what `genlm collect` prints.
Each pair of answers is a unit, and an annotator's value of it is which one is better,
or a tie.

Krippendorff's alpha (nominal) takes any number of annotators and those who ranked a
part only; 1 is full agreement, 0 that of chance. Klaus Krippendorff, Computing
Krippendorff's Alpha-Reliability (2011), https://repository.upenn.edu/asc_papers/43.
"""

from collections import Counter
import itertools
from typing import Hashable, Iterable, NamedTuple, Sequence

Unit = dict[str, int]  # {annotator: value} of a pair of answers
_TIE = 0


class Given(NamedTuple):
    """A ranking: whose, of which answers, and the rank of each, 1 the best."""

    annotator: str
    answers: Hashable
    ranks: Sequence[int]


def units(given: Iterable[Given]) -> list[Unit]:
    """What each annotator says of each pair of answers: -1 the first is better, 1 the
    second, 0 neither."""
    found: dict[Hashable, Unit] = {}
    for annotator, answers, ranks in given:
        for i, j in itertools.combinations(range(len(ranks)), 2):
            value = (ranks[i] > ranks[j]) - (ranks[i] < ranks[j])
            found.setdefault((answers, i, j), {})[annotator] = value
    return list(found.values())


def alike(units: Iterable[Unit]) -> dict[tuple[str, str], tuple[int, int]]:
    """Of each two annotators: the pairs of answers that they order alike, and those
    that both order (neither calls them a tie)."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for unit in units:
        ordered = {name: value for name, value in unit.items() if value != _TIE}
        for two in itertools.combinations(sorted(ordered), 2):
            same, both = found.get(two, (0, 0))
            found[two] = same + (ordered[two[0]] == ordered[two[1]]), both + 1
    return found


def alpha(units: Iterable[dict[str, int]]) -> float | None:
    """Krippendorff's alpha of nominal values; None where it has no meaning: nobody
    shares a unit, or all values are the same."""
    agreed = 0.0  # of coincidences, each unit's weighted so that a value counts once
    totals: Counter[int] = Counter()
    for unit in units:
        if len(unit) < 2:
            continue
        counts = Counter(unit.values())
        totals += counts
        agreed += sum(n * (n - 1) for n in counts.values()) / (len(unit) - 1)
    n = totals.total()
    by_chance = sum(count * (count - 1) for count in totals.values())
    if n * (n - 1) == by_chance:
        return None
    observed, expected = 1 - agreed / n, 1 - by_chance / (n * (n - 1))
    return 1 - observed / expected


def describe(given: Sequence[Given]) -> str:
    """How many rankings each gave, and how far they agree, in a few lines."""
    counts = Counter(ranking.annotator for ranking in given)
    each = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    lines = [f"rankings: {each}"]
    pairs = units(given)
    for (one, other), (same, both) in sorted(alike(pairs).items()):
        lines.append(
            f"{one} and {other}: {same:,} of {both:,} pairs of answers ordered alike"
            f" ({same / both:.1%}), ties aside"
        )
    value = alpha(pairs)
    if value is not None:
        shared = sum(len(unit) > 1 for unit in pairs)
        lines.append(
            f"Krippendorff's alpha, a tie as a value of its own: {value:.3f}"
            f" ({shared:,} pairs of answers)"
        )
    return "\n".join(lines)
