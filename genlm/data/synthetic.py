"""SYNTHETIC CONVERSATIONS: questions with short answers, of the Python installation.

Before: docstrings and exercises. After: supervised fine-tuning of a small model that
has read the standard library. A function of the seed and of the interpreter alone:
`data.paths = "embedded:questions"`.

What is held out is decided by what a question asks, never by its words, the seed or the
order: so a sum that is held out here can be practised later by its reward and is new.
"""

from collections import Counter
from random import Random
from typing import Any, Iterator, Mapping

from genlm.data import docstrings, embedded, exercises
from genlm.data.dedup import Key
from genlm.data.docstrings import Entry
from genlm.data.question import Question

LICENCE = embedded.LICENCE
SYSTEMS = (
    "You are a helpful assistant.",
    "Answer in one short line.",
    "You answer questions about Python, words and numbers.",
    "Give the answer and nothing else.",
)
_THING = ("What is {}?", "Describe {} in one sentence.", "What is the class {} for?")
_DEED = ("What does {} do?", "Describe {} in one sentence.", "What is {} for?")
_PLACE = ("In which module is {}?", "Which module has {}?", "Where is {} defined?")
_HASHES = 2**64

Conversation = dict[str, Any]  # "messages", "kind", and "keys": what its questions ask


def read(
    seed: int = 0,
    *,
    docstring: int = 4000,
    arithmetic: int = 5000,
    string: int = 3000,
    two_questions: float = 0.2,
    system: float = 0.2,
) -> Iterator[Conversation]:
    """Conversations in a fixed, mixed order.

    Args:
      docstring, arithmetic, string: about how many questions of each kind; fewer
        where there are no more that differ.
      two_questions: the share of questions that stand in a conversation of two.
      system: the share of conversations that open with a system turn.
    """
    makers = {
        "docstring": (_of_docstrings, docstring),
        "arithmetic": (exercises.arithmetic, arithmetic),
        "string": (exercises.strings, string),
    }
    found: list[Conversation] = []
    for kind, (make, count) in makers.items():
        random = Random(f"{seed} {kind}")  # a string's hash is SHA-512 there
        questions = list(make(random, count))
        for group in _grouped(questions, random, two_questions):
            found.append(_conversation(kind, group, random, system))
    Random(f"{seed} order").shuffle(found)
    yield from found


def is_held_out(asked: Mapping[str, Any] | str, fraction: float) -> bool:
    """Whether a conversation, or the key of a question, is of the held-out `fraction`.

    One question that is held out holds out its whole conversation.
    """
    return lowest(asked) < fraction


def lowest(asked: Mapping[str, Any] | str) -> float:
    """The fraction, from 0 to 1, from which on `is_held_out` holds it out."""
    keys = [asked] if isinstance(asked, str) else asked["keys"]
    return min(_hash(key) for key in keys) / _HASHES


def _hash(key: str) -> int:
    return Key(key).value()


def _grouped(
    questions: list[Question], random: Random, share: float
) -> Iterator[list[Question]]:
    """Each question alone, or in a pair: neighbours by their hash, so that at most one
    pair of a kind has a question on either side of a split."""
    random.shuffle(questions)
    paired = 2 * int(len(questions) * share / 2)
    first = sorted(questions[:paired], key=lambda question: _hash(question.key))
    yield from (first[i : i + 2] for i in range(0, paired, 2))
    yield from ([question] for question in questions[paired:])


def _conversation(
    kind: str, questions: list[Question], random: Random, system: float
) -> Conversation:
    messages = []
    if random.random() < system:
        messages.append({"role": "system", "content": random.choice(SYSTEMS)})
    for question in questions:
        messages.append({"role": "user", "content": question.text})
        messages.append({"role": "assistant", "content": question.answer})
    return {"messages": messages, "kind": kind, "keys": [q.key for q in questions]}


def _of_docstrings(random: Random, count: int) -> Iterator[Question]:
    """About `count` questions: what a thing does, where it is, and which does this."""
    entries = docstrings.entries()
    possible = [
        *((_what, entry) for entry in entries),
        *((_which, entry) for entry in _alone_in_its_deed(entries)),
        *((_where, entry) for entry in _alone_of_its_name(entries)),
    ]
    for make, entry in random.sample(possible, min(count, len(possible))):
        text, answer = make(entry, random)
        yield Question("docstring", f"docstring {entry.full_name}", text, answer)


def _what(entry: Entry, random: Random) -> tuple[str, str]:
    wordings = _THING if entry.kind == "class" else _DEED
    return random.choice(wordings).format(entry.full_name), entry.sentence


def _which(entry: Entry, random: Random) -> tuple[str, str]:
    home, _, name = entry.full_name.rpartition(".")
    return f"Which {entry.kind} of {home} does this? {entry.sentence}", name


def _where(entry: Entry, random: Random) -> tuple[str, str]:
    return random.choice(_PLACE).format(entry.name), entry.module


def _alone_in_its_deed(entries: list[Entry]) -> list[Entry]:
    """Functions and methods that nothing else of their home describes as they do."""
    deeds = [(e.full_name.rpartition(".")[0], e.sentence) for e in entries]
    once = _once(deeds)
    return [
        entry
        for entry, deed in zip(entries, deeds)
        if entry.kind != "class" and deed[0] and deed in once
    ]


def _alone_of_its_name(entries: list[Entry]) -> list[Entry]:
    """What is named in one module alone, so that its name tells its place."""
    once = _once([entry.name for entry in docstrings.everything()])
    return [e for e in entries if e.name in once and e.kind != "method"]


def _once(items: list) -> set:
    return {item for item, count in Counter(items).items() if count == 1}
