"""`genlm` in a process of its own, as a user calls it."""

import os
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# To this process a disk is full once a file holds so many bytes. Python ignores
# SIGXFSZ, so the write says EFBIG.
_ON_A_FULL_DISK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
runpy.run_module("genlm.cli", run_name="__main__")
"""
_PROGRESS = re.compile(r"\w+( \S+)?: [\d,]+( of [\d,]+)?, .*/s( .*)?")


def environment(**changes: str) -> dict[str, str]:
    """That of this process without the eight devices that tests simulate."""
    ours = {"XLA_FLAGS", "PJRT_NPROC"}
    return {k: v for k, v in os.environ.items() if k not in ours} | changes


def start(
    *arguments: object,
    file_bytes: int | None = None,
    env: dict[str, str] | None = None,
    called: tuple[str, ...] = ("genlm.cli",),
    **popen,
) -> subprocess.Popen:
    """The command, begun from the project's root; its output is piped as text.

    Args:
      env: what changes in its environment.
      file_bytes: no file that it writes may grow larger.
      called: another module that calls it, with what that needs.
    """
    module = ["-m", *called]
    if file_bytes is not None:
        module = ["-c", _ON_A_FULL_DISK.format(file_bytes)]
    return subprocess.Popen(
        [sys.executable, *module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**(env or {})),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **popen},
    )


def genlm(
    *arguments: object, code: int = 0, input: Any = None, **popen
) -> subprocess.CompletedProcess:
    """Run the command to its end; its exit code must be `code`."""
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    process = start(*arguments, stdin=stdin, **popen)
    out, err = process.communicate(input)
    assert process.returncode == code, f"exit {process.returncode}\n{err[-3000:]}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def mistake(*arguments: object, code: int = 1, **popen) -> str:
    """Run the command, which must fail; the one line that it says on stderr."""
    said = genlm(*arguments, code=code, **popen).stderr
    lines = complaints(said)
    assert len(lines) == 1, said[-3000:]
    assert lines[0].startswith(f"genlm {arguments[0]}: "), lines[0]
    return lines[0]


def complaints(said: str) -> list[str]:
    """The lines of stderr that are not about how far the work is."""
    return [line for line in said.splitlines() if not _PROGRESS.fullmatch(line)]


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below `folder`, to compare before and after."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
