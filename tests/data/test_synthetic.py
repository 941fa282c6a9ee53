"""Synthetic conversations: right answers, a split that stays, the same each time."""

import builtins
import functools
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys

import pytest

from genlm.data import docstrings, exercises, synthetic


@functools.cache
def rows() -> list[dict]:
    return list(synthetic.read())


def _alone() -> list[dict]:
    return [row for row in rows() if len(row["keys"]) == 1]


def _asked_and_answered(kind: str) -> list[tuple[str, str]]:
    return [
        (user["content"], assistant["content"])
        for row in rows()
        if row["kind"] == kind
        for user, assistant in zip(*[iter(_without_system(row))] * 2)
    ]


def _without_system(row: dict) -> list[dict]:
    return [m for m in row["messages"] if m["role"] != "system"]


def _digest(rows) -> str:
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


@pytest.mark.slow
def test_a_fresh_process_with_other_hashes_makes_the_same():
    program = (
        "import hashlib, json; from genlm.data import synthetic;"
        "text = json.dumps(list(synthetic.read())).encode();"
        "print(hashlib.sha256(text).hexdigest())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == _digest(rows())
    assert _digest(synthetic.read(seed=1)) != _digest(rows())


def test_it_is_some_ten_thousand_rows_of_three_kinds():
    assert 9_000 < len(rows()) < 13_000
    for kind, least in (("docstring", 3000), ("arithmetic", 4000), ("string", 2500)):
        assert sum(row["kind"] == kind for row in rows()) >= least
    two = sum(len(row["keys"]) == 2 for row in rows())
    told = sum(row["messages"][0]["role"] == "system" for row in rows())
    assert 0.08 < two / len(rows()) < 0.14 and 0.18 < told / len(rows()) < 0.22
    only = list(synthetic.read(docstring=0, string=0, system=1.0, two_questions=1.0))
    assert {row["kind"] for row in only} == {"arithmetic"}
    assert {len(row["messages"]) for row in only} == {5}


def test_every_row_is_turn_by_turn_and_short_text():
    for row in rows():
        turns = _without_system(row)
        roles = [message["role"] for message in turns]
        assert roles == ["user", "assistant"] * len(row["keys"])
        for message in row["messages"]:
            text = message["content"]
            assert text and text == text.strip() and text.isprintable()
            assert text.encode().decode() == text and len(text) < 260
            if message["role"] == "assistant":
                assert len(text) <= docstrings.LONGEST


def test_no_row_stands_twice():
    texts = [json.dumps(row["messages"]) for row in _alone()]
    assert len(set(texts)) == len(texts)


WORDED = [
    (r"(\d+) (?:\+|plus) (\d+)", lambda a, b: a + b),
    (r"(?:Add|sum of) (\d+) and (\d+)", lambda a, b: a + b),
    (r"(\d+) (?:-|minus) (\d+)", lambda a, b: a - b),
    (r"Subtract (\d+) from (\d+)", lambda a, b: b - a),
    (r"(\d+) (?:\*|times) (\d+)", lambda a, b: a * b),
    (r"Multiply (\d+) by (\d+)", lambda a, b: a * b),
]


def test_arithmetic_is_right():
    pairs = _asked_and_answered("arithmetic")
    assert len(pairs) >= 5000
    for question, answer in pairs:
        found = [(re.search(words, question), compute) for words, compute in WORDED]
        ((match, compute),) = [(m, c) for m, c in found if m]
        assert int(answer) == compute(*map(int, match.groups())), question
        assert answer == str(int(answer))


SPOKEN = {
    r'Reverse the word "(\w+)"|"(\w+)" (?:backwards|reversed)': lambda w: "".join(
        reversed(w)
    ),
    r'"(\w+)" in(?:to)? (?:capital|upper)|word "(\w+)" into upper': str.upper,
    r'"(\w+)" with a capital|Capitalize the word "(\w+)"': str.title,
    r'first letter of "(\w+)"|does "(\w+)" begin': lambda w: w[:1],
    r'last letter of "(\w+)"|does "(\w+)" end': lambda w: w[len(w) - 1 :],
    r'letters are in "(\w+)"|How long is the word "(\w+)"': lambda w: str(
        sum(1 for _ in w)
    ),
    r'Spell the word "(\w+)"|"(\w+)" with a space': lambda w: re.sub(r"\B", " ", w),
    r'word "(\w+)" twice|Repeat "(\w+)" two': lambda w: " ".join([w] * 2),
    r'many times is "(\w)" in "(\w+)"|the letter "(\w)" in "(\w+)"': lambda c, w: str(
        len(re.findall(c, w))
    ),
    r'there a letter "(\w)" in "(\w+)"': lambda c, w: "Yes" if {c} & set(w) else "No",
    r'Does "(\w+)" have a letter "(\w)"': lambda w, c: "Yes" if {c} & set(w) else "No",
    r'Sort the words "(\w+)" and "(\w+)"|in order: "(\w+)", "(\w+)"': lambda a, b: (
        f"{a} {b}" if a < b else f"{b} {a}"
    ),
    r'in the alphabet, "(\w+)" or "(\w+)"': lambda a, b: a if a < b else b,
    r'Join "(\w+)" and "(\w+)" with a hyphen': lambda a, b: "-".join([a, b]),
    r'word "(\w+)" longer than "(\w+)"': lambda a, b: (
        "Yes" if len(a) > len(b) else "No"
    ),
}


def test_string_tasks_are_right():
    pairs, seen = _asked_and_answered("string"), set()
    assert len(pairs) >= 2900
    for question, answer in pairs:
        found = {p: m for p in SPOKEN if (m := re.search(p, question))}
        assert len(found) == 1, question
        ((pattern, match),) = found.items()
        words = [word for word in match.groups() if word]
        assert answer == SPOKEN[pattern](*words), question
        assert len(words) == 1 or words[0] != words[1]
        seen.add(pattern)
    assert seen == set(SPOKEN)
    answers = {answer for question, answer in pairs if "longer" in question}
    assert answers == {"Yes", "No"}


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5])
def test_what_is_held_out_is_never_trained_on(fraction: float):
    held = [row for row in rows() if synthetic.is_held_out(row, fraction)]
    kept = [row for row in rows() if not synthetic.is_held_out(row, fraction)]
    trained = {key for row in kept for key in row["keys"]}
    assert not any(synthetic.is_held_out(key, fraction) for key in trained)
    mixed = [row for row in held if trained & set(row["keys"])]
    assert len(mixed) <= 3  # a pair of each kind across the border, at most
    assert not {str(row["messages"]) for row in held} & {
        str(row["messages"]) for row in kept
    }
    error = (fraction * (1 - fraction) / len(_alone())) ** 0.5
    share = sum(synthetic.is_held_out(row, fraction) for row in _alone()) / len(
        _alone()
    )
    assert abs(share - fraction) < 5 * error


def test_a_sum_is_held_out_however_it_is_asked():
    every = exercises.two_digit_sums()
    assert len(every) == len({q.text for q in every}) == 8100
    held = {q.key for q in every if synthetic.is_held_out(q.key, 0.1)}
    assert 0.08 < len(held) / 4095 < 0.12  # 90 * 91 / 2 pairs, whatever their order
    forms = range(len(exercises.ADDITION.wordings))
    for a, b in ((17, 25), (99, 10), (44, 44)):
        asked = [exercises.asked(exercises.ADDITION, a, b, form) for form in forms]
        asked += [exercises.asked(exercises.ADDITION, b, a, form) for form in forms]
        assert len({q.key for q in asked}) == 1 and {q.answer for q in asked} == {
            str(a + b)
        }
    for seed in (0, 5):
        sums = synthetic.read(seed, docstring=0, string=0, arithmetic=20_000)
        trained = [row for row in sums if not synthetic.is_held_out(row, 0.1)]
        assert not held & {key for row in trained for key in row["keys"]}


def test_the_split_stays_as_it_was():
    """If these moved, what was held out from a model could be trained on later."""
    sums = [q for q in exercises.two_digit_sums() if synthetic.is_held_out(q.key, 0.01)]
    assert [q.text for q in sums[:3]] == [
        "What is 10 + 27?",
        "What is 11 + 32?",
        "What is 12 + 16?",
    ]


def test_docstrings_are_quoted_from_where_they_stand():
    said = {entry.full_name: entry for entry in docstrings.entries()}
    assert len(said) > 3000
    for name in ("str.upper", "dict.get", "sorted", "KeyError"):
        owner, _, method = name.rpartition(".")
        thing = getattr(getattr(builtins, owner) if owner else builtins, method)
        assert said[name].sentence in " ".join(thing.__doc__.split())
    for name in ("textwrap.dedent", "shutil.copyfile", "json.dumps", "os.path.join"):
        module, _, function = name.rpartition(".")
        if name in said:
            thing = getattr(importlib.import_module(module), function)
            assert said[name].sentence in " ".join(thing.__doc__.split())
    assert said["textwrap.dedent"].kind == "function"
    assert not any(re.match(r"idlelib|lib2to3|test\b|turtledemo", n) for n in said)


def test_a_name_s_module_is_the_only_one_that_has_it():
    asked = [
        (match.group(1), answer)
        for question, answer in _asked_and_answered("docstring")
        if (match := re.match(r"(?:In which module is|Where is) (\w+)", question))
    ]
    assert len(asked) > 150
    for name, module in asked:
        homes = {e.module for e in docstrings.everything() if e.name == name}
        assert homes == {module}


@pytest.mark.parametrize(
    "docstring, sentence",
    [
        ("Return the thing.\n\nMore of it.", "Return the thing."),
        ("Return the\n    thing. It is good.", "Return the thing."),
        ("Return what e.g. Unix has. More.", "Return what e.g. Unix has."),
        ("Return the thing", "Return the thing."),
        ("f(a, b) -> int\n\nAdd two whole numbers.", "Add two whole numbers."),
        ("f(a, b) -> int", ""),
        ("Return x -- or none of it.", ""),
        ("Return what x = y makes of it.", ""),
        ("Return *args in their order.", ""),
        ("Short one.", ""),
        ("lower case is a continuation of something.", ""),
        ("A" + " word" * 60 + ".", ""),
        ("Says caf\u00e9 to everybody.", ""),
        ("", ""),
    ],
)
def test_first_sentences(docstring: str, sentence: str):
    assert docstrings.first_sentence(docstring) == sentence
