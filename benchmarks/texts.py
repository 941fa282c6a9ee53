"""GENERATED TEXT: made from the words of Python's language reference, drawn as often
as it uses them; the same text each time for the same size."""

import itertools
from pathlib import Path
from pydoc_data.topics import topics
import random

_WORDS = 1 << 16  # drawn at a time


def write_prose(path: Path, num_bytes: int) -> None:
    """Lines of 13 words on average."""
    rng = random.Random(0)
    words = " ".join(topics.values()).split()
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < num_bytes:
            drawn = rng.choices(words, k=_WORDS)
            ends = sorted(rng.sample(range(_WORDS), _WORDS // 13))
            lines = (" ".join(drawn[a:b]) for a, b in itertools.pairwise(ends))
            written += file.write("\n".join(lines) + "\n")


def write_names(path: Path, number: int) -> None:
    """One made-up name of 3 to 12 letters a line."""
    rng = random.Random(0)
    letters = "aabcdeeefghiiijklmnnooprrssttuvwyz"
    names = ("".join(rng.choices(letters, k=rng.randint(3, 12))) for _ in range(number))
    path.write_text("\n".join(names) + "\n", "utf-8")
