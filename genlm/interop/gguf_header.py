"""GGUF, THE HEADER: the metadata of a file by key, and its tensors by name.

Before: gguf_walk, which found where everything is. After: gguf_config, gguf_names and
gguf_vocabulary. A value is a place in the mapped file until it is asked for, so that a
hostile header costs no memory; how much one question may bring is bounded.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import dataclasses
import math
import mmap
from pathlib import Path
import struct
from typing import Any, NamedTuple

import numpy as np

from genlm.errors import UserError
from genlm.interop.gguf_blocks import Kind

MAX_STRING = 1 << 24  # bytes of one text that is asked for
MAX_STRINGS = 1 << 20  # texts of one list that is asked for; a big vocabulary has 2^18

# Types of metadata values by their number: name, and struct's letter for plain ones.
TYPES = (
    ("uint8", "B"),
    ("int8", "b"),
    ("uint16", "H"),
    ("int16", "h"),
    ("uint32", "I"),
    ("int32", "i"),
    ("float32", "f"),
    ("bool", "?"),
    ("string", ""),
    ("array", ""),
    ("uint64", "Q"),
    ("int64", "q"),
    ("float64", "d"),
)
_WHOLE = {name for name, _ in TYPES if "int" in name}
LETTERS = dict(TYPES)
LENGTH = struct.Struct("<Q")


class Field(NamedTuple):
    """A value of the metadata, or a list of them, and where it begins."""

    type: str  # of the items, if it is a list
    start: int  # byte of the file
    length: int  # items
    is_list: bool


class Tensor(NamedTuple):
    """A tensor of the file, and where its bytes are."""

    name: str
    shape: tuple[int, ...]  # as numpy has it: the last dim is contiguous
    kind: Kind  # of its blocks
    start: int  # byte of the file
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file holds. Asking for what it lacks, or for a value of another type, is a
    UserError that names the file and the key."""

    path: Path
    data: mmap.mmap
    fields: dict[str, Field]
    tensors: dict[str, Tensor]

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; `default`, if that is one, where the file has no such key."""
        if default is not None and key not in self.fields:
            return default
        return self._plain(key, _WHOLE, "a whole number")

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; one that is kept in 32 bits is read as it was written."""
        if default is not None and key not in self.fields:
            return default
        kinds = _WHOLE | {"float32", "float64"}
        value = self._plain(key, kinds, "a number")
        if not math.isfinite(value):
            raise UserError(f"{self.path}: {shown(key)} is {value}")
        is_single = self.fields[key].type == "float32"
        return float(str(np.float32(value))) if is_single else float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        if default is not None and key not in self.fields:
            return default
        return self._plain(key, {"bool"}, "true or false")

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self.fields:
            return default
        field = self._field(key, {"string"}, "a text", is_list=False)
        return self._text(key, field.start)[0]

    def texts(self, key: str) -> list[str]:
        field = self._field(key, {"string"}, "a list of texts", is_list=True)
        if field.length > MAX_STRINGS:
            raise UserError(f"{self.path}: {shown(key)} lists {field.length:,} texts")
        found, place = [], field.start
        for _ in range(field.length):
            text, place = self._text(key, place)
            found.append(text)
        return found

    def numbers(self, key: str) -> np.ndarray:
        """A list of numbers, as they are kept."""
        kinds = _WHOLE | {"float32", "float64"}
        field = self._field(key, kinds, "a list of numbers", is_list=True)
        dtype = np.dtype("<" + LETTERS[field.type])
        return np.frombuffer(self.data, dtype, field.length, field.start)

    def _field(self, key: str, types: set[str], what: str, is_list: bool) -> Field:
        if key not in self.fields:
            raise UserError(f"{self.path}: lacks {shown(key)}")
        field = self.fields[key]
        if field.type not in types or field.is_list != is_list:
            kind = f"a list of {field.type}" if field.is_list else field.type
            raise UserError(f"{self.path}: {shown(key)} must be {what}, not {kind}")
        return field

    def _plain(self, key: str, types: set[str], what: str) -> Any:
        field = self._field(key, types, what, is_list=False)
        letter = LETTERS[field.type]
        return struct.unpack_from("<" + letter, self.data, field.start)[0]

    def _text(self, key: str, start: int) -> tuple[str, int]:
        """The text at `start`, which the walk found whole, and where it ends."""
        (length,) = LENGTH.unpack_from(self.data, start)
        begin, end = start + 8, start + 8 + length
        if length > MAX_STRING:
            raise UserError(
                f"{self.path}: {shown(key)} holds a text of {length:,} bytes"
            )
        return decoded(self.data[begin:end], f"{self.path}: {shown(key)}"), end


def shown(name: str) -> str:
    """A name from the file in one short line."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


def decoded(raw: bytes, what: str) -> str:
    """Raises:
    UserError: it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8") from error
