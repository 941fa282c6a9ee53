"""COMPARISONS: what was answered, beside one text that is right -> a score from 0 to 1.

Before: an answer and a reference. After: graders, where of several references the best
score counts. Each is a pure function of two texts.
"""

import collections
from decimal import Decimal
import re
import string
from typing import Callable

from genlm.errors import UserError

_NUMBER = re.compile(
    r"(?<![\d.])(?:-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\$?\.\d+)"
)
_MARK = "####"  # what GSM8K's answers put before the number
_MINUS = str.maketrans({"\u2212": "-"})


def exact(answer: str, reference: str) -> float:
    """1 where both are the same, but for case, spaces and a full stop at the end."""
    return float(_plain(answer) == _plain(reference))


def numeric(answer: str, reference: str) -> float:
    """1 where both give the same number: the first after ####, else the last."""
    return float(number(answer) is not None and number(answer) == number(reference))


def near(answer: str, reference: str) -> float:
    """1 where both give the same number, and the less the further it is off: 0 from as
    far off as the right one is from 0. What is nearly right is a step on the way."""
    ours, right = number(answer), number(reference)
    if ours is None or right is None:
        return 0.0
    return max(0.0, 1.0 - float(abs(ours - right) / max(abs(right), Decimal(1))))


def f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall of words, as SQuAD counts them
    (https://arxiv.org/abs/1606.05250): without case, punctuation and articles."""
    ours, theirs = _words(answer), _words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (collections.Counter(ours) & collections.Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def regex(answer: str, reference: str) -> float:
    """1 where the regular expression `reference` is found in the answer.

    Raises:
      UserError: it is none.
    """
    try:
        return float(re.search(reference, answer) is not None)
    except re.error as error:
        raise UserError(f"{reference!r} is no regular expression: {error}") from error


def number(text: str) -> Decimal | None:
    """The number that a text gives; None if there is none in it."""
    _, mark, after = text.translate(_MINUS).rpartition(_MARK)
    found = _NUMBER.findall(after)
    if not found:
        return None
    chosen = found[0] if mark else found[-1]
    return Decimal(chosen.replace(",", "").replace("$", ""))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")


def _words(text: str) -> list[str]:
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


COMPARISONS: dict[str, Callable[[str, str], float]] = {
    "exact": exact,
    "numeric": numeric,
    "near": near,
    "f1": f1,
    "regex": regex,
}
