"""THE COMMAND in a process of its own, as a user calls it."""

import os
from pathlib import Path
import subprocess
import sys

from genlm.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments: object, **popen) -> subprocess.Popen:
    """A started Python, its stdout thrown away."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        **popen,
    )


def genlm(*arguments: object, **popen) -> subprocess.Popen:
    """A started `genlm`."""
    return python("-m", "genlm.cli", *arguments, **popen)


def finish(process: subprocess.Popen) -> None:
    """Wait for a process that is to succeed.

    Raises:
      UserError: it did not.
    """
    _check(process, process.wait())


def _check(process: subprocess.Popen, code: int) -> None:
    if code:
        raise UserError(f"{process.args!r} ended with code {code}")


def peak_mb(process: subprocess.Popen) -> float:
    """Wait for a process: the most memory it held, in MB.

    A process begins with the peak of the one that started it, so that this is for
    callers that are small themselves.
    """
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    _check(process, process.returncode)
    return usage.ru_maxrss / 1024
