"""DOWNLOAD: a URL and the sha256 of its bytes -> a file in the user's cache folder.

Before: a part of data.paths. After: sources, to which it is a file like any other. What
has come stands in `<name>.partial`, where a later attempt or process goes on. Only the
whole file, once its hash is right, gets its name; so nothing here is synced to disk: a
file that a power cut spoilt is seen at its next use.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
from http.client import HTTPException, InvalidURL
import os
from pathlib import Path, PurePosixPath
import re
import time
from typing import Any, Callable, Iterator
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

import genlm
from genlm.errors import UserError

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 16
_PASSING = (408, 429, 500, 502, 503, 504)  # what a server may not say the next time

Report = Callable[[str, int, int | None], None]  # title, bytes so far, of how many


class _Cut(Exception):
    """An attempt ended early, and another may do better."""


class _Unreachable(_Cut):
    """There was no connection at all."""


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file that stands elsewhere, and the hash that pins its bytes."""

    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it stands once it is here."""
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        last = PurePosixPath(unquote(urlsplit(self.url).path)).name
        name = re.sub(r"[^\w.+-]", "_", last).lstrip(".")[-100:] or "text"
        return Path(cache, "genlm", "data", self.sha256, name)


def is_url(part: str) -> bool:
    return part.lower().startswith(("http://", "https://"))


def parse(part: str) -> Remote:
    """The file that 'URL#sha256=HEX' names.

    Raises:
      UserError: it has no host, or no hash (says how to find it).
    """
    url, _, pin = part.partition("#")
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise UserError(f"data.paths: {url} names no host")
    found = re.fullmatch("sha256=([0-9a-f]{64})", pin, re.IGNORECASE)
    if not found:
        raise UserError(
            f"data.paths: {url} lacks the hash that pins its bytes; download it once,"
            f" run sha256sum on it, and write {url}#sha256=HEX with its 64 digits"
        )
    return Remote(url, found[1].lower())


def silent(title: str, done: int, total: int | None) -> None:
    """A report that nobody sees."""


def fetch(
    remote: Remote, report: Report = silent, pauses: tuple[float, ...] = PAUSES
) -> Path:
    """The file of `remote`, downloaded unless it is here already and whole.

    Args:
      pauses: seconds to wait after each attempt that was cut; they begin anew whenever
        an attempt came further than all before it.

    Raises:
      UserError: it cannot be had, its bytes are others, or they cannot be written.
    """
    path = remote.path
    try:
        if _is(path, remote.sha256):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, report):
            if not _is(path, remote.sha256):  # by a process that was quicker
                _bring(remote, report, pauses)
    except OSError as error:  # of the disk: the network's became _Cut
        raise UserError(
            f"cannot write {path}: {_reason(error)}; make room there, or set"
            " XDG_CACHE_HOME to another folder"
        ) from error
    return path


@contextlib.contextmanager
def _alone(path: Path, report: Report) -> Iterator[None]:
    """Wait until no other process downloads `path`, and keep others waiting.

    The kernel lets go when the process ends, however it ends.
    """
    folder, title = os.open(path.parent, os.O_RDONLY), f"wait for {path.name}"
    try:
        while not _locked(folder):
            report(title, _size(_partial(path)), None)
            time.sleep(0.1)
        yield
    finally:
        os.close(folder)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems lock no folder; the hash still guards
        pass
    return True


def _bring(remote: Remote, report: Report, pauses: tuple[float, ...]) -> None:
    """Download into the partial file, and give it its name if its hash is right."""
    partial = _partial(remote.path)
    is_resumed = partial.exists()
    _download(remote, report, pauses)
    if is_resumed and not _is(partial, remote.sha256):  # perhaps it began with others
        partial.unlink()
        _download(remote, report, pauses)
    if (got := _sha256(partial)) != remote.sha256:
        partial.unlink()
        raise UserError(
            f"{remote.url} has other bytes: expected sha256 {remote.sha256}, got {got}"
        )
    os.replace(partial, remote.path)


def _download(remote: Remote, report: Report, pauses: tuple[float, ...]) -> None:
    """Fill the partial file, in as many attempts as it takes."""
    partial, waits = _partial(remote.path), iter(pauses)
    start = furthest = _size(partial)
    while True:
        try:
            return _attempt(remote, report)
        except _Cut as cut:
            if (size := _size(partial)) > furthest:
                furthest, waits = size, iter(pauses)
            is_offline = isinstance(cut, _Unreachable) and furthest == start
            wait = None if is_offline else next(waits, None)
            if wait is None:
                raise UserError(
                    f"data.paths: cannot download {remote.url}: {cut}; if this machine"
                    " is offline, name a copy of the file: --config.data.paths=FILE"
                ) from cut
            time.sleep(wait)


def _attempt(remote: Remote, report: Report) -> None:
    """One request, for what the partial file lacks."""
    path = remote.path
    done, title = _size(_partial(path)), f"download {path.name}"
    response = _request(remote.url, done)
    if response is None:
        return
    with response:
        if response.status != 206:  # the server knows no ranges: from the beginning
            done = 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        report(title, done, total)
        with open(_partial(path), "ab" if done else "wb") as file:
            for block in _blocks(response):
                file.write(block)
                done += len(block)
                report(title, done, total)
    if total is not None and done < total:
        raise _Cut(f"the connection was cut at byte {done:,} of {total:,}")


def _request(url: str, begin: int) -> Any:
    """The response from byte `begin` on; None where there is nothing after it."""
    headers = {"User-Agent": f"genlm/{genlm.__version__}"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    ascii_url = quote(url, safe="%/:?=&@[]!$'()*+,;~")
    try:
        return urlopen(Request(ascii_url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if begin and error.code == 416:  # range not satisfiable
            return None
        answer = f"{error.code} {error.reason}"
        if error.code in _PASSING:
            raise _Cut(answer) from error
        raise UserError(f"data.paths: cannot download {url}: {answer}") from error
    except URLError as error:
        raise _Unreachable(_reason(error.reason)) from error
    except (ValueError, InvalidURL) as error:
        raise UserError(f"data.paths: {url} is no URL: {error}") from error
    except (OSError, HTTPException) as error:
        raise _Cut(_reason(error)) from error


def _blocks(response: Any) -> Iterator[bytes]:
    """What comes, as it comes."""
    try:
        while block := response.read1(_BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _Cut(_reason(error)) from error


def _reason(error: BaseException | str) -> str:
    return getattr(error, "strerror", None) or str(error)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _size(path: Path) -> int:
    """Bytes of a file, 0 of none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
