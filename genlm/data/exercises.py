"""EXERCISES: questions whose answer is computed: sums, and what is done to a word.

Before: docstrings (its words). After: synthetic, and rewards that check an answer.
"""

from collections import Counter
from random import Random
import re
from typing import Callable, Iterator, NamedTuple

from genlm.data import docstrings
from genlm.data.question import Question

_DIGITS = range(100)  # what is added, subtracted and multiplied has two digits at most
_WORD = re.compile(r"(?<![\w.`'])[a-z]{3,8}(?![\w.`'(])")


class Operation(NamedTuple):
    """Numbers a and b, asked about in words and computed."""

    sign: str
    compute: Callable[[int, int], int]
    pairs: list[tuple[int, int]]
    share: float  # of all arithmetic
    wordings: tuple[str, ...]  # the plainest first


def _plain(sign: str) -> tuple[str, ...]:
    spelled = f"{{a}} {sign} {{b}}"
    return (f"What is {spelled}?", f"{spelled} =", f"Calculate {spelled}.")


ADDITION = Operation(
    "+",
    lambda a, b: a + b,
    [(a, b) for a in _DIGITS for b in _DIGITS],
    0.5,
    (
        *_plain("+"),
        "Add {a} and {b}.",
        "How much is {a} plus {b}?",
        "What is the sum of {a} and {b}?",
    ),
)
SUBTRACTION = Operation(
    "-",
    lambda a, b: a - b,
    [(a, b) for a in _DIGITS for b in _DIGITS if a >= b],
    0.3,
    (*_plain("-"), "Subtract {b} from {a}.", "How much is {a} minus {b}?"),
)
MULTIPLICATION = Operation(
    "*",
    lambda a, b: a * b,
    [(a, b) for a in _DIGITS for b in _DIGITS if min(a, b) < 10],
    0.2,
    (*_plain("*"), "Multiply {a} by {b}.", "How much is {a} times {b}?"),
)
OPERATIONS = (ADDITION, SUBTRACTION, MULTIPLICATION)


def asked(operation: Operation, a: int, b: int, wording: int = 0) -> Question:
    """The question of an operation on `a` and `b`, in its plainest words or others."""
    sign = operation.sign
    first, second = (a, b) if sign == "-" else sorted((a, b))
    text = operation.wordings[wording].format(a=a, b=b)
    key = f"arithmetic {first} {sign} {second}"
    return Question("arithmetic", key, text, str(operation.compute(a, b)))


def two_digit_sums() -> list[Question]:
    """Every sum of two numbers from 10 to 99, 8,100, in the plainest words."""
    return [asked(ADDITION, a, b) for a, b in ADDITION.pairs if min(a, b) > 9]


def arithmetic(random: Random, count: int) -> Iterator[Question]:
    """About `count` questions, each pair of numbers at most once an operation."""
    for operation in OPERATIONS:
        wanted = min(round(count * operation.share), len(operation.pairs))
        for a, b in random.sample(operation.pairs, wanted):
            yield asked(operation, a, b, random.randrange(len(operation.wordings)))


class Task(NamedTuple):
    """What is asked of one word, or of two: {} and {other} in its wordings."""

    name: str
    answer: Callable[[str, str], str]
    wordings: tuple[str, ...]
    other: str = ""  # "word", "letter", or "" where the first word is all


def _yes(is_so: bool) -> str:
    return "Yes" if is_so else "No"


TASKS = (
    Task(
        "reverse",
        lambda word, _: word[::-1],
        ('Reverse the word "{}".', 'Write "{}" backwards.', 'What is "{}" reversed?'),
    ),
    Task(
        "upper",
        lambda word, _: word.upper(),
        ('Write "{}" in capital letters.', 'Put the word "{}" into upper case.'),
    ),
    Task(
        "capital",
        lambda word, _: word.capitalize(),
        ('Write "{}" with a capital first letter.', 'Capitalize the word "{}".'),
    ),
    Task(
        "first",
        lambda word, _: word[0],
        ('What is the first letter of "{}"?', 'Which letter does "{}" begin with?'),
    ),
    Task(
        "last",
        lambda word, _: word[-1],
        ('What is the last letter of "{}"?', 'Which letter does "{}" end with?'),
    ),
    Task(
        "length",
        lambda word, _: str(len(word)),
        ('How many letters are in "{}"?', 'How long is the word "{}"?'),
    ),
    Task(
        "spell",
        lambda word, _: " ".join(word),
        ('Spell the word "{}".', 'Write "{}" with a space after each letter.'),
    ),
    Task(
        "repeat",
        lambda word, _: f"{word} {word}",
        ('Write the word "{}" twice.', 'Repeat "{}" two times.'),
    ),
    Task(
        "count",
        lambda word, letter: str(word.count(letter)),
        ('How many times is "{other}" in "{}"?', 'Count the letter "{other}" in "{}".'),
        "letter",
    ),
    Task(
        "has",
        lambda word, letter: _yes(letter in word),
        ('Is there a letter "{other}" in "{}"?', 'Does "{}" have a letter "{other}"?'),
        "letter",
    ),
    Task(
        "sort",
        lambda word, other: " ".join(sorted((word, other))),
        ('Sort the words "{}" and "{other}".', 'Put in order: "{}", "{other}".'),
        "word",
    ),
    Task(
        "before",
        lambda word, other: min(word, other),
        ('Which comes first in the alphabet, "{}" or "{other}"?',),
        "word",
    ),
    Task(
        "join",
        lambda word, other: f"{word}-{other}",
        ('Join "{}" and "{other}" with a hyphen.',),
        "word",
    ),
    Task(
        "longer",
        lambda word, other: _yes(len(word) > len(other)),
        ('Is the word "{}" longer than "{other}"?',),
        "word",
    ),
)


def words() -> list[str]:
    """Words of three to eight letters that docstrings use more than once, sorted."""
    text = " ".join(entry.sentence for entry in docstrings.entries())
    counts = Counter(_WORD.findall(text))
    return sorted(word for word, count in counts.items() if count > 1)


def strings(random: Random, count: int) -> Iterator[Question]:
    """About `count` questions, each word at most once as the first of a task."""
    known = words()
    for task in TASKS:
        wanted = min(round(count / len(TASKS)), len(known))
        for word in random.sample(known, wanted):
            other = _other(task, word, known, random)
            text = random.choice(task.wordings).format(word, other=other)
            key = f"string {task.name} {word} {other}".rstrip()
            yield Question("string", key, text, task.answer(word, other))


def _other(task: Task, word: str, known: list[str], random: Random) -> str:
    """The second thing that a task asks about; of letters mostly one in the word."""
    if task.other == "word":
        return random.choice([w for w in random.sample(known, 2) if w != word])
    if task.other == "letter":
        return random.choice(word + "aeinorst"[: len(word)])
    return ""
