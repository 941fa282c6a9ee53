"""HLO: the text of a compiled program -> its instructions, and how often each runs.

Before: compiled.as_text(). After: `hlo_counts`. Grammar: openxla.org/xla/hlo_dumps and
operation_semantics.
"""

from collections import defaultdict
import math
import re
from typing import Iterator, NamedTuple

WIDTHS = {"pred": 1, "token": 0, "opaque": 0} | {
    f"{kind}{bits}": bits / 8
    for kind, sizes in {"s": (2, 4, 8, 16, 32, 64), "f": (16, 32, 64)}.items()
    for bits in sizes
}
WIDTHS |= {f"u{bits}": bits / 8 for bits in (2, 4, 8, 16, 32, 64)}
WIDTHS |= {"bf16": 2, "c64": 8, "c128": 16}


class Array(NamedTuple):
    """One array of a shape."""

    dtype: str
    dims: tuple[int, ...]
    is_in_hbm: bool  # and not in a faster memory of the chip

    @property
    def bytes(self) -> int:
        width = 1 if self.dtype.startswith("f8") else WIDTHS[self.dtype]
        return math.ceil(math.prod(self.dims) * width)


class Instruction(NamedTuple):
    name: str
    shape: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        return sum(array.bytes for array in self.shape)


Computation = dict[str, Instruction]
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
CALLEE = re.compile(r"\b(calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_EITHER = re.compile(r"\b(?:true|false)_computation=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """The computations, those that are called first, and the name of the entry."""
    computations: dict[str, Computation] = {}
    entry = ""
    current: Computation = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            instruction = _instruction(*match.groups())
            current[instruction.name] = instruction
        elif (match := _HEAD.match(line)) and not line.startswith("HloModule"):
            current = computations[match[2]] = {}
            entry = match[2] if match[1] else entry
    return computations, entry


def _instruction(root: str | None, name: str, rest: str) -> Instruction:
    shape, rest = _split(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, rest = rest.strip().split("(", 1)
    operands, attributes = _split("(" + rest)
    names = re.findall(r"%([\w.\-]+)", operands)
    arrays = tuple(
        Array(
            dtype,
            tuple(int(n) for n in dims.split(",") if n),
            "S(" not in layout or "S(0)" in layout,
        )
        for dtype, dims, layout in _ARRAY.findall(shape)
    )
    if opcode in ("constant", "parameter"):
        attributes = operands
    return Instruction(name, arrays, opcode, tuple(names), attributes, bool(root))


def _split(text: str) -> tuple[str, str]:
    """What stands in the first parentheses, and what after them."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[1:at], text[at + 1 :]
    return text, ""


def times(
    computations: dict[str, Computation], entry: str
) -> tuple[dict[str, float], set[str]]:
    """How often each computation runs, and those that run inside one instruction."""
    runs: dict[str, float] = defaultdict(float, {entry: 1.0})
    inside: set[str] = set()
    for name in reversed(computations):
        here = computations[name]
        for instruction in here.values():
            for callee, often in _called(instruction, here, computations):
                runs[callee] += runs[name] * often
                if name in inside or instruction.opcode in ("fusion", "custom-call"):
                    inside.add(callee)
    return runs, inside


def _called(
    instruction: Instruction, here: Computation, computations: dict[str, Computation]
) -> Iterator[tuple[str, float]]:
    attributes = instruction.attributes
    named = dict(CALLEE.findall(attributes))
    if instruction.opcode == "while":
        ends = computations[named["condition"]], computations[named["body"]]
        yield named["body"], _trips(instruction, here, *ends)
    elif instruction.opcode == "conditional":
        branches = _EITHER.findall(attributes)
        if match := _BRANCHES.search(attributes):
            branches = re.findall(r"[\w.\-]+", match[1])
        for branch in branches:  # as if each were taken as often
            yield branch, 1 / len(branches)
    elif instruction.opcode.endswith(("-done", "-update")):
        return
    elif "calls" in named:
        yield named["calls"], 1
    elif instruction.opcode == "call" and "to_apply" in named:
        yield named["to_apply"], 1


def _trips(
    loop: Instruction, here: Computation, condition: Computation, body: Computation
) -> int:
    """How often a loop runs: as XLA says, or from where its number begins, by what it
    grows and at what its condition ends."""
    if match := _TRIPS.search(loop.attributes):
        return int(match[1])
    ends = root(condition)
    number, *_ = (condition[n] for n in ends.operands)
    place = re.search(r"index=(\d+)", number.attributes)
    if ends.opcode != "compare" or place is None:
        return 1
    first = _grown(here[loop.operands[0]], int(place[1]), here)
    step = _grown(root(body), int(place[1]), body)
    last = _constants(ends, condition) + ("direction=LE" in ends.attributes)
    return max(-(-(last - first) // max(step, 1)), 1)


def _grown(of: Instruction, place: int, here: Computation) -> int:
    """The sum of the constants that are added to an element of a tuple."""
    if of.opcode != "tuple":
        return 0
    total, at = 0, here[of.operands[place]]
    while at.opcode in ("add", "copy", "bitcast", "fusion"):
        total += _constants(at, here)
        rest = [here[n] for n in at.operands if here[n].opcode != "constant"]
        if len(rest) != 1:
            break
        at = rest[0]
    return total + (int(at.attributes) if at.opcode == "constant" else 0)


def _constants(of: Instruction, here: Computation) -> int:
    sides = (here[name] for name in of.operands)
    return sum(int(side.attributes) for side in sides if side.opcode == "constant")


def root(computation: Computation) -> Instruction:
    return next(each for each in computation.values() if each.is_root)
