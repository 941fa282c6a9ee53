"""A QUESTION whose answer is known, and the key that says what it asks.

Before: docstrings and exercises. After: synthetic. Two questions that ask the same in
other words have the same key, and so stand on the same side of a split.
"""

from typing import NamedTuple


class Question(NamedTuple):
    """What a user asks and what the assistant should answer."""

    kind: str  # "docstring", "arithmetic" or "string"
    key: str  # what is asked, however it is worded: "arithmetic 17 + 25"
    text: str
    answer: str
