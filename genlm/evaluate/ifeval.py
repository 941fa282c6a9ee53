"""IFEVAL: an answer and the instructions of its row -> which of them it follows.

Before: an answer, and a row with "instruction_id_list" and "kwargs", as the published
data has them (https://arxiv.org/abs/2311.07911). After: graders, metrics. `strict`
looks at the answer as it is; `loose` is content where one of eight versions of it
follows: without its first line, its last, both, and each without asterisks.
"""

import difflib
from typing import Any, Mapping, NamedTuple

from genlm.errors import UserError
from genlm.evaluate.instructions import KINDS, RELATIONS

Fields = Mapping[str, Any]


class Instruction(NamedTuple):
    """A kind of instruction, and what it names."""

    name: str
    arguments: dict[str, Any]

    def is_followed(self, answer: str) -> bool:
        """Whether an answer follows it; an empty one follows nothing."""
        return bool(answer.strip()) and KINDS[self.name].check(answer, **self.arguments)


def instructions(row: Fields) -> list[Instruction]:
    """The instructions of a row.

    Raises:
      UserError: there are none, one is not of the 25 kinds, or lacks an argument.
    """
    for field in ("instruction_id_list", "kwargs"):
        if field not in row or not isinstance(row[field], list) or not row[field]:
            raise UserError(f"no list {field!r} of instructions")
    names, arguments = row["instruction_id_list"], row["kwargs"]
    if len(names) != len(arguments):
        raise UserError(f"{len(names)} instructions, and kwargs of {len(arguments)}")
    return [_instruction(name, given) for name, given in zip(names, arguments)]


def _instruction(name: Any, given: Any) -> Instruction:
    if not isinstance(name, str) or name not in KINDS:
        near = difflib.get_close_matches(str(name), KINDS, n=1)
        hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(KINDS)}"
        raise UserError(f"no instruction {name!r}; {hint}")
    if not isinstance(given, dict):
        raise UserError(f"instruction {name!r}: kwargs are {given!r:.40}, no object")
    expected = KINDS[name].arguments
    found = {key: value for key, value in given.items() if value is not None}
    if set(found) != set(expected):
        raise UserError(
            f"instruction {name!r} has the arguments {sorted(found)}, and needs"
            f" {sorted(expected)}"
        )
    for key, kind in expected.items():
        _check_argument(f"instruction {name!r}: {key}", found[key], kind)
    return Instruction(name, found)


def _check_argument(place: str, value: Any, kind: type) -> None:
    """Make sure that an argument is of its kind; a whole float is a number too."""
    if kind is int and isinstance(value, float) and value.is_integer():
        return
    is_of_kind = isinstance(value, kind) and not isinstance(value, bool)
    if kind is list and is_of_kind:
        is_of_kind = all(isinstance(each, str) for each in value)
    if not is_of_kind or value == "":
        raise UserError(f"{place} is {value!r:.40}, expected {kind.__name__}")
    if place.endswith("relation") and value not in RELATIONS:
        raise UserError(f"{place} is {value!r:.40}, expected one of {RELATIONS}")


def strict(answer: str, row: Fields) -> list[bool]:
    """Whether the answer follows each instruction of its row."""
    return [each.is_followed(answer) for each in instructions(row)]


def loose(answer: str, row: Fields) -> list[bool]:
    """Whether one of the answer's versions follows, for each instruction."""
    lines = answer.split("\n")
    parts = [answer, *("\n".join(p).strip() for p in _without_ends(lines))]
    versions = [*parts, *(part.replace("*", "") for part in parts)]
    return [any(map(each.is_followed, versions)) for each in instructions(row)]


def _without_ends(lines: list[str]) -> list[list[str]]:
    return [lines[1:], lines[:-1], lines[1:-1]]


def score(answer: str, row: Fields) -> float:
    """1 where the answer follows every instruction of its row: prompt-level, strict."""
    return float(all(strict(answer, row)))


def share(answer: str, row: Fields) -> float:
    """The share of its instructions that the answer follows, strictly."""
    found = strict(answer, row)
    return sum(found) / len(found)


def details(answer: str, row: Fields) -> dict[str, Any]:
    """What a row of results says beside the score."""
    found, tolerant = strict(answer, row), loose(answer, row)
    return {
        "score_loose": float(all(tolerant)),
        "followed": sum(found),
        "followed_loose": sum(tolerant),
        "instructions": len(found),
        "not_followed": [i.name for i, ok in zip(instructions(row), found) if not ok],
    }
