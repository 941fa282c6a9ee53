"""A JSON OBJECT FROM A STRANGER: parsed in bounded memory, or refused in one line."""

import json
from pathlib import Path
from typing import Any, NoReturn

from genlm.errors import UserError

_PER_VALUE = 400  # bytes of Python objects that a value with its key takes, at most
_PER_BYTE = 5  # of text, decoded: four where one character is not Latin, and itself
_ROOM = 90_000_000  # bytes beside the file's own size


def parse(data: bytes, what: str, file_bytes: int) -> dict[str, Any]:
    """The object that `data` spells.

    Args:
      what: its name, for a complaint.
      file_bytes: size of the file that it comes from; parsing takes no more memory
        than that and 100 MB.

    Raises:
      UserError: it is no JSON object, repeats a key, or would take too much memory.
    """
    values = sum(data.count(sign) for sign in (b",", b"[", b"{"))
    if _PER_VALUE * values + _PER_BYTE * len(data) > file_bytes + _ROOM:
        raise UserError(f"{what} is too large: {len(data):,} bytes, {values:,} values")
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except RecursionError as error:
        raise UserError(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{what} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{what} is damaged: it holds no JSON object")
    return found


def read(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
      UserError: it cannot be read; see `parse`.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if _PER_BYTE * size <= size + _ROOM else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(data) != size:
        raise UserError(f"{path} is too large: {size:,} bytes")
    return parse(data, str(path), size)


def shown(value: Any) -> str:
    """A stranger's value in one short line of printable characters."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"it has the key {shown(key)} twice")
            seen.add(key)
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
