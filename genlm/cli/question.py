"""THE QUESTION that `genlm collect` asks: answers shown -> how a person ranks them."""

import enum
import hashlib
import re
import sys
from typing import Sequence

_HOW = "best first, as {example} (s skip, u undo, q quit): "
_MARGIN = "    "  # before answers, so that none looks like the next one's number


class Act(enum.Enum):
    """What else may be said."""

    SKIP = "s"
    UNDO = "u"
    QUIT = "q"


class Wrong(Exception):
    """Why a line is no ranking, and what would be one."""


def ask(
    title: str, prompt: str, answers: Sequence[str], cut: Sequence[bool], seed: int
) -> tuple[int, ...] | Act:
    """The ranks of the answers, in their own order, or what else was said; the end of
    standard input quits. What is no ranking is asked again.

    Args:
      cut: the answers that ended for want of tokens, which is told.
    """
    order = shuffled(prompt, len(answers), seed)
    print(f"\n--- {title}\n{_visible(prompt)}")
    for number, i in enumerate(order, 1):
        text = _visible(answers[i]) if answers[i].strip() else "(nothing)"
        head = f"[{number}] (cut off)" if cut[i] else f"[{number}]"
        print(f"\n{head}\n{_MARGIN}" + text.replace("\n", f"\n{_MARGIN}"))
    print()
    is_person = sys.stdin.isatty()
    while True:
        said = _HOW.format(example=_example(len(answers)))
        print(said, end="" if is_person else "\n", flush=True)
        raw = sys.stdin.buffer.readline()
        if not raw:
            return Act.QUIT
        line = raw.decode("utf-8", "replace").strip()
        if line.lower() in [act.value for act in Act]:
            return Act(line.lower())
        try:
            ranks = parse(line, len(answers))
        except Wrong as why:
            print(f"{why}", flush=True)
            continue
        return tuple(ranks[order.index(i)] for i in range(len(answers)))


def shuffled(prompt: str, count: int, seed: int) -> list[int]:
    """The order in which answers are shown, so that none gains by its place: of the
    seed and the prompt alone."""

    def key(i: int) -> bytes:
        return hashlib.sha256(f"{seed} {i} {prompt}".encode()).digest()

    return sorted(range(count), key=key)


def parse(line: str, count: int) -> list[int]:
    """The rank of each of `count` answers as shown, from «2 1=3»: best first.

    Raises:
      Wrong: the line does not name each once.
    """
    groups = [group.split("=") for group in re.sub(r"\s*=\s*", "=", line).split()]
    example = _example(count)
    numbers = [str(n) for n in range(1, count + 1)]
    ranks: dict[str, int] = {}
    for rank, group in enumerate(groups, 1):
        for name in group:
            if name not in numbers:
                told = f"{name[:20]!r} is no answer" if name else "a number is missing"
                raise Wrong(f"{told}; rank 1 to {count}, as {example}")
            if name in ranks:
                raise Wrong(f"{name} is there twice; rank each once, as {example}")
            ranks[name] = rank
    if missing := [name for name in numbers if name not in ranks]:
        raise Wrong(f"not ranked: {', '.join(missing)}; rank all, as {example}")
    return [ranks[name] for name in numbers]


def _example(count: int) -> str:
    """«2 1 3 or 2 1=3»: an order, and one with a tie."""
    rest = [str(n) for n in range(3, count + 1)]
    tied = f"2 {'='.join(['1', *rest])}" if rest else "1=2"
    return f"{' '.join(['2', '1', *rest])} or {tied}"


def _visible(text: str) -> str:
    """Text that moves no cursor: a control character shows as its number."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in text
    )
