"""CONVERSATIONS: files of instruction data -> conversations, in order.

Before: paths from a config. After: chat templates and supervised fine-tuning. A row
that is no conversation is left out, counted, and named with its line and the reason.
"""

import json
from pathlib import Path
import sys
from typing import Any, Callable, Iterable, Iterator, NamedTuple

from genlm.data import download, sources, synthetic
from genlm.data.forms import CONVERSATIONS, Messages
from genlm.data.shapes import Shapes, Unfit
from genlm.errors import UserError

EMBEDDED = "embedded:questions"
_NAMED = 3  # rows left out whose reason is told; the others are counted
_BOM = b"\xef\xbb\xbf"

Say = Callable[[str], None]


class Row(NamedTuple):
    """A row of a file, or why it cannot be read."""

    number: int  # its line, from 1; of a JSON array its element
    value: Any
    problem: str  # "" where there is none


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read(
    paths: str,
    form: str = "auto",
    strict: bool = False,
    say: Say = to_stderr,
    report: download.Report = download.silent,
) -> Iterator[dict[str, Any]]:
    """Conversations of comma-separated paths, globs and URLs, or `embedded:questions`.

    Each has "messages", the "file" and "line" it stands at, and "keys": what it asks,
    by which `synthetic.is_held_out` splits.

    Args:
      form: one of CONVERSATIONS, or 'auto': that of a file's first row that fits.
      strict: make the first row that is no conversation an error.
      say: what is told of the rows left out.

    Raises:
      UserError: a file that cannot be read, or holds no conversation; no such form.
    """
    check_form(form)
    if paths == EMBEDDED:
        for number, row in enumerate(synthetic.read(), 1):
            yield {**row, "file": EMBEDDED, "line": number}
    else:
        yield from read_files(sources.resolve(paths, report), form, strict, say)


def check_form(form: str) -> None:
    CONVERSATIONS.require(form)


def read_files(
    files: Iterable[Path],
    form: str = "auto",
    strict: bool = False,
    say: Say = to_stderr,
) -> Iterator[dict[str, Any]]:
    """Conversations of files, in order; see `read`."""
    for path in files:
        for line, found in fitting(path, CONVERSATIONS, form, strict, say):
            for messages in found:
                place = {"file": str(path), "line": line}
                yield {"messages": messages, **place, "keys": [key(messages)]}


def fitting(
    path: Path, shapes: Shapes, form: str, strict: bool, say: Say
) -> Iterator[tuple[int, list[Any]]]:
    """The line of each row of a file that is of `shapes`, and what it holds.

    Args:
      form, strict, say: as of `read`.

    Raises:
      UserError: as `read`.
    """
    left_out: list[str] = []  # the first of them, told
    num_rows = num_left_out = 0
    for row in rows(path):
        num_rows += 1
        try:
            if row.problem:
                raise Unfit(row.problem)
            its_form = shapes.recognise(row.value) if form == "auto" else form
            found = shapes.read(row.value, its_form)
        except Unfit as problem:
            if strict:
                where = f"{path}:{row.number}"
                raise UserError(f"{where}: {problem}; {shapes.describe()}") from None
            num_left_out += 1
            if num_left_out <= _NAMED:
                left_out.append(f"line {row.number}: {problem}")
            continue
        form = its_form
        yield row.number, found
    told = "; ".join(left_out) or "it has no row"
    if num_left_out > _NAMED:
        told += f"; and {num_left_out - _NAMED:,} more"
    if num_rows == num_left_out:
        raise UserError(f"{path}: no {shapes.what} in it ({told}); {shapes.describe()}")
    if num_left_out:
        say(f"{path}: left out {num_left_out:,} of {num_rows:,} rows: {told}")


def key(messages: Messages) -> str:
    """What the user says: two answers to one question stand on one side of a split."""
    return "\n".join(m["content"] for m in messages if m["role"] == "user")


def rows(path: Path) -> Iterator[Row]:
    """Rows of JSON lines, or of a .json file that is one array.

    Raises:
      UserError: the file cannot be read, or is an array that is no JSON.
    """
    try:
        if path.suffix == ".json" and _is_array(path):
            yield from _elements(path)
        else:
            with open(path, "rb") as file:
                for number, line in enumerate(file, 1):
                    if number == 1:
                        line = line.removeprefix(_BOM)
                    if line.strip():
                        yield Row(number, *_parsed(line))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _is_array(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(4096)
    return head.removeprefix(_BOM).lstrip().startswith(b"[")


def _elements(path: Path) -> Iterator[Row]:
    values, problem = _parsed(path.read_bytes().removeprefix(_BOM))
    if problem:
        raise UserError(f"{path}: {problem}; it begins as one array of rows")
    yield from (Row(number, value, "") for number, value in enumerate(values, 1))


def _parsed(text: bytes) -> tuple[Any, str]:
    """(value, '') of JSON, or (None, why it is none)."""
    try:
        return json.loads(text.decode()), ""
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 (byte {error.start + 1} of it)"
    except json.JSONDecodeError as error:
        place = f"column {error.colno}"
        if error.lineno > 1:
            place = f"line {error.lineno}, {place}"
        return None, f"not JSON ({error.msg}, {place})"
    except (ValueError, RecursionError) as error:  # a number or a nesting too long
        return None, f"not JSON ({error})"
