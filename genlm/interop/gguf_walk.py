"""GGUF, THE WALK: a file that nobody vouches for -> a header that holds.

Before: a path. After: gguf. Nothing is believed: no count and no length is used before
the bytes that it speaks of are known to be there, and each tensor is whole, inside the
file and apart from the others, or the file is refused.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
from pathlib import Path
import struct
from typing import NamedTuple, NoReturn

from genlm.errors import UserError
from genlm.interop import gguf_blocks
from genlm.interop.gguf_header import (
    LENGTH,
    LETTERS,
    TYPES,
    Field,
    Header,
    Tensor,
    decoded,
    shown,
)

MAX_ENTRIES = 1 << 16  # metadata entries, and tensors; real files have under 3,000
_MAX_DIMS = 4
_MAX_NAME = (1 << 16) - 1  # bytes, by the format


def read_header(path: Path) -> Header:
    """What the GGUF file holds.

    Raises:
      UserError: it cannot be read, or is not as the format says (names what, and at
        which byte).
    """
    walk = _Walk(path, _mapped(path))
    num_tensors, num_fields = _counts(walk)
    fields: dict[str, Field] = {}
    for _ in range(num_fields):
        key = walk.name("a key")
        if key in fields:
            walk.refuse(f"{shown(key)} is there twice")
        fields[key] = _field(walk, key)
    listed = [_listed(walk) for _ in range(num_tensors)]
    header = Header(path, walk.data, fields, {})
    alignment = _alignment(header)
    base = -(-walk.place // alignment) * alignment
    for tensor in listed:
        if tensor.name in header.tensors:
            walk.refuse(f"tensor {shown(tensor.name)} is there twice")
        place = _placed(walk, tensor, base, alignment)
        header.tensors[tensor.name] = place
    _check_overlap(walk, header.tensors)
    return header


class _Walk:
    """A place in the file that moves on over what is there."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path, self.data, self.place = path, data, 0

    def refuse(self, what: str) -> NoReturn:
        raise UserError(f"{self.path}: {what} (at byte {self.place:,})")

    def over(self, num_bytes: int, what: str) -> int:
        """Where the next `num_bytes` begin; goes past them."""
        left = len(self.data) - self.place
        if num_bytes > left:
            self.refuse(
                f"cut short: {what} needs {num_bytes:,} bytes, {left:,} are left"
            )
        start = self.place
        self.place += num_bytes
        return start

    def number(self, letter: str, what: str) -> int:
        start = self.over(struct.calcsize(letter), what)
        return struct.unpack_from("<" + letter, self.data, start)[0]

    def name(self, what: str) -> str:
        length = self.number("Q", what)
        if length > _MAX_NAME:
            self.refuse(f"{what} of {length:,} bytes")
        start = self.over(length, what)
        raw = self.data[start : start + length]
        return decoded(raw, f"{self.path}: {what} at byte {start:,}")

    def over_strings(self, count: int, what: str) -> None:
        """Past `count` strings, a length and so many bytes each."""
        data, end = self.data, len(self.data)
        for _ in range(count):
            if self.place + 8 > end:
                break
            self.place += 8 + LENGTH.unpack_from(data, self.place)[0]
        else:
            if self.place <= end:
                return
        self.place = end
        self.refuse(f"cut short: {what} goes on after the file")


def _mapped(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: is empty") from error


def _counts(walk: _Walk) -> tuple[int, int]:
    """How many tensors, and how many metadata entries."""
    magic = walk.over(4, "the magic number")
    if walk.data[magic : magic + 4] != b"GGUF":
        raise UserError(f"{walk.path}: is no GGUF file: it does not begin with 'GGUF'")
    version = walk.number("I", "the version")
    if version not in (2, 3):
        is_swapped = version and not version & 0xFFFF
        what = "is big-endian" if is_swapped else f"is of GGUF version {version}"
        raise UserError(
            f"{walk.path}: {what}; versions 2 and 3, little-endian, are read"
        )
    num_tensors = walk.number("Q", "the number of tensors")
    num_fields = walk.number("Q", "the number of metadata entries")
    if max(num_tensors, num_fields) > MAX_ENTRIES:
        walk.refuse(
            f"claims {num_tensors:,} tensors and {num_fields:,} metadata entries"
        )
    return num_tensors, num_fields


def _field(walk: _Walk, key: str) -> Field:
    """The value of `key`, which stands next; goes past it."""
    what = shown(key)
    kind = _type(walk, what)
    if kind != "array":
        start, length, is_list = walk.place, 1, False
    else:
        kind = _type(walk, what)
        if kind == "array":
            walk.refuse(f"{what} is a list of lists")
        length, is_list = walk.number("Q", what), True
        start = walk.place
    if kind == "string":
        walk.over_strings(length, what)
    else:
        walk.over(length * struct.calcsize("<" + LETTERS[kind]), what)
    return Field(kind, start, length, is_list)


def _type(walk: _Walk, what: str) -> str:
    number = walk.number("I", what)
    if number >= len(TYPES):
        walk.refuse(f"{what} is of type {number}, which the format does not know")
    return TYPES[number][0]


class _Listed(NamedTuple):
    """A tensor as the header lists it."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


def _listed(walk: _Walk) -> _Listed:
    name = walk.name("a tensor's name")
    what = f"tensor {shown(name)}"
    num_dims = walk.number("I", what)
    if not 1 <= num_dims <= _MAX_DIMS:
        walk.refuse(f"{what} has {num_dims:,} dims")
    dims = [walk.number("Q", what) for _ in range(num_dims)]
    return _Listed(
        name, tuple(reversed(dims)), walk.number("I", what), walk.number("Q", what)
    )


def _alignment(header: Header) -> int:
    value = header.integer("general.alignment", 32)
    if value < 1 or value & (value - 1):
        raise UserError(f"{header.path}: alignment {value} is no power of two")
    return value


def _placed(walk: _Walk, listed: _Listed, base: int, alignment: int) -> Tensor:
    """Where in the file a listed tensor is."""
    what = f"tensor {shown(listed.name)}"
    try:
        kind = gguf_blocks.kind(listed.type)
    except UserError as error:
        raise UserError(f"{walk.path}: {what} {error}") from error
    if listed.shape[-1] % kind.weights or 0 in listed.shape:
        walk.refuse(f"{what} of shape {listed.shape} is not made of {kind.name} blocks")
    num_bytes = math.prod(listed.shape) // kind.weights * kind.num_bytes
    start = base + listed.offset
    if listed.offset % alignment:
        walk.refuse(f"{what} is at {listed.offset:,}, which is not aligned")
    if start + num_bytes > len(walk.data):
        walk.refuse(
            f"{what} of {num_bytes:,} bytes at {start:,} ends after the file,"
            f" which has {len(walk.data):,}"
        )
    return Tensor(listed.name, listed.shape, kind, start, num_bytes)


def _check_overlap(walk: _Walk, tensors: dict[str, Tensor]) -> None:
    end, before = 0, ""
    for tensor in sorted(tensors.values(), key=lambda t: t.start):
        if tensor.start < end:
            walk.refuse(f"tensors {shown(before)} and {shown(tensor.name)} overlap")
        end, before = tensor.start + tensor.num_bytes, tensor.name
