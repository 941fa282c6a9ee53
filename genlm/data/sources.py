"""SOURCES: files on disk, URLs, or the embedded corpus -> documents, in order.

Before: paths from a config. After: clean. A document is a sequence of text parts that
can be read again and again; a file larger than PART_BYTES is one document of several
parts, cut at a line end, so that memory stays bounded whatever the file's size.
"""

import codecs
import dataclasses
import glob
import itertools
import json
import os
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

from genlm.data import download, public
from genlm.errors import UserError

EMBEDDED = "embedded:python"
PART_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class Document:
    """A text and where it came from; `parts()` yields its text in order, each time."""

    source: str
    parts: Callable[[], Iterator[str]]


def of_text(source: str, text: str) -> Document:
    """A document of one part."""
    return Document(source, lambda: iter((text,)))


def resolve(paths: str, report: download.Report = download.silent) -> list[Path]:
    """The files that comma-separated paths, globs, URLs and public sets name, in order,
    each once; what stands elsewhere is downloaded into the cache.

    Raises:
      UserError: one that names nothing, a folder, or an empty file; or a download that
        fails.
    """
    found: dict[Path, None] = {}
    for part in _split(paths):
        elsewhere = _remote(part)
        files = [download.fetch(elsewhere, report)] if elsewhere else _matches(part)
        found.update((path, None) for path in files)
    if not found:
        raise UserError(f"data.paths is empty; name files, or {EMBEDDED}")
    for path in found:
        try:
            size = path.stat().st_size
        except OSError as error:  # a link to nothing
            raise UserError(f"data.paths: {path}: {error.strerror}") from error
        if size == 0:
            raise UserError(f"data.paths: {path} is empty")
    return list(found)


def _split(paths: str) -> list[str]:
    return [part for p in paths.split(",") if (part := p.strip())]


def _remote(part: str) -> download.Remote | None:
    """What a part of data.paths names elsewhere; None if it is a path."""
    if part.startswith(public.PREFIX):
        return public.find(part.removeprefix(public.PREFIX))
    return download.parse(part) if download.is_url(part) else None


def _matches(pattern: str) -> list[Path]:
    names = sorted(glob.glob(pattern, recursive=True))
    if os.path.exists(pattern) and pattern not in names:
        names = [pattern]  # a real name with brackets in it
    if not names:
        raise UserError(f"data.paths: no file {pattern}")
    files = [Path(n) for n in names if not Path(n).is_dir()]
    if not files:
        raise UserError(f"data.paths: {pattern} is a folder; write {pattern}/*.txt")
    return files


def licence(paths: str) -> str:
    """The licences that are known of what `paths` names; '' if none is."""
    if paths == EMBEDDED:
        from genlm.data import embedded

        return embedded.LICENCE
    named = [_remote(part) for part in _split(paths)]
    known = [n.licence for n in named if isinstance(n, public.PublicSet)]
    rest = ["others not stated"] if known and len(known) < len(named) else []
    return "; ".join(dict.fromkeys(known + rest))


def read(paths: str, document: str) -> Iterator[Document]:
    """Documents of `paths` (or of the embedded corpus), in a fixed order.

    Args:
      document: what one is: 'file', 'line', 'blank_line' (text between blank lines),
        or the name of a field of JSON lines.
    """
    if paths == EMBEDDED:
        from genlm.data import embedded

        yield from embedded.read()
    else:
        yield from read_files(resolve(paths), document)


def read_files(files: Iterable[Path], document: str) -> Iterator[Document]:
    """Documents of files, in order."""
    for path in files:
        if path.suffix == ".jsonl" and document in ("file", "line", "blank_line"):
            fields = ", ".join(_first_fields(path)) or "its text"
            raise UserError(
                f"{path} is JSON lines: set data.document to a field ({fields})"
            )
        if document == "file":
            yield _file(path)
        elif document == "line":
            yield from _texts(path, _lines(path))
        elif document == "blank_line":
            yield from _texts(path, _paragraphs(_lines(path)))
        else:
            yield from _texts(path, _fields(path, document))


def _file(path: Path) -> Document:
    return Document(str(path), lambda: parts(path))


def _texts(path: Path, texts: Iterable[str]) -> Iterator[Document]:
    for number, text in enumerate(texts, 1):
        if text.strip():
            yield of_text(f"{path}#{number}", text)


def parts(path: Path) -> Iterator[str]:
    """The text of a file in parts of about PART_BYTES, cut where a line ends.

    Raises:
      UserError: the file cannot be read, or is not UTF-8 text (says at which byte).
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")()
    offset, rest, block = 0, "", b""
    try:
        with open(path, "rb") as file:
            while block := file.read(PART_BYTES):
                if b"\0" in block:
                    where = offset + block.index(b"\0")
                    raise UserError(
                        f"{path} is not UTF-8 text: NUL at byte {where}; leave the file"
                        " out, or convert it, for example with iconv -f utf-16 -t utf-8"
                    )
                text = rest + decode.decode(block)
                offset += len(block)
                cut = _cut(text)
                rest = text[cut:]
                yield text[:cut]
            if rest := rest + decode.decode(b"", final=True):
                yield rest
    except UnicodeDecodeError as error:
        where = offset + error.start - (len(error.object) - len(block))
        raise UserError(
            f"{path} is not UTF-8 text: bad byte at {where}; leave the file out, or"
            " convert it, for example with iconv -f latin1 -t utf-8"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _cut(text: str) -> int:
    """Where to end a part: at its last line end, or else between words.

    The white space there goes to the next part, so that no run of it is ever cut and
    each part can be cleaned by itself.
    """
    for space in ("\n", " "):
        if cut := len(text[: max(text.rfind(space), 0)].rstrip()):
            return cut
    return len(text)


def _lines(path: Path) -> Iterator[str]:
    """Lines without their end, across parts."""
    rest = ""
    for part in parts(path):
        *lines, rest = (rest + part).split("\n")  # splitlines would also cut at U+2028
        yield from (line.removesuffix("\r") for line in lines)
    if rest:
        yield rest


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    for filled, group in itertools.groupby(lines, lambda n: bool(n.strip())):
        if filled:
            yield "\n".join(group)


def _fields(path: Path, field: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        row = _json(line, f"{path} line {number}")
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            has = ", ".join(_text_fields(row)) or "none"
            raise UserError(
                f"{path} line {number}: no text field {field!r}; text fields: {has};"
                " data.document is file, line, blank_line or such a field"
            )
        yield row[field]


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        why = f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number or a nesting too long
        why = str(error)
    raise UserError(
        f"{where} is not JSON ({why}); data.document is file, line, blank_line, or a"
        " field of JSON lines"
    )


def _text_fields(row: object) -> list[str]:
    if not isinstance(row, dict):
        return []
    return [k for k, v in row.items() if isinstance(v, str)]


def _first_fields(path: Path) -> list[str]:
    try:
        return _text_fields(json.loads(next(_lines(path))))
    except (ValueError, StopIteration):
        return []
