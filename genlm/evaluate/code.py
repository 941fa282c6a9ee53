"""CODE: generated Python and its tests -> whether the tests passed, in a jail.

Before: an answer, and a row with "prompt", "test" and "entry_point", as HumanEval has
them (https://arxiv.org/abs/2107.03374). After: graders. Generated programs are run by
nobody but `run`, in the jail of genlm.evaluate.jail, and only where a caller says so
(`genlm eval --run-code`); where the jail cannot be built nothing is run at all.
docs/graders.md says what it protects from, and what not.
"""

from concurrent.futures import ThreadPoolExecutor
import dataclasses
import functools
import json
import os
from pathlib import Path
import re
import secrets
import subprocess
import sys
import tempfile
from typing import Any, Mapping, NamedTuple, Sequence

from genlm.errors import UserError

_JAIL = Path(__file__).parent / "jail.py"
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_GRACE = 10.0  # s for the jail itself
_AT_ONCE = 8
_LONGEST = 1 << 20  # characters of a program

Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use; of processes it has its own and no thread beside."""

    seconds: float = 10.0  # of the clock; of the processor as many and one more
    memory_bytes: int = 512 << 20
    file_bytes: int = 16 << 20  # of all its files together, which are in memory


class Outcome(NamedTuple):
    """Whether a program came to its end, or why not."""

    passed: bool
    reason: str  # "" where it passed


def run(program: str, limits: Limits = Limits()) -> Outcome:
    """Run a program in the jail. It passes if its last line was reached: neither an
    exit code nor anything that it prints counts.

    Raises:
      UserError: the jail cannot be built here; nothing was run.
    """
    if len(program) > _LONGEST or "\0" in program or not _is_text(program):
        return Outcome(False, "no text of a program")
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        job = {"program": program, "secret": secret, "folder": folder}
        job |= _python() | dataclasses.asdict(limits)
        report = _report(job, limits.seconds + _GRACE)
    if report.startswith(f"{secret} "):
        raise _no_jail(report.removeprefix(f"{secret} "))
    if report == secret:
        return Outcome(True, "")
    lines = report.replace(secret, "").split("\n")
    return Outcome(False, lines[-1][:200] or "ended before its last line")


@functools.cache
def require_jail() -> None:
    """Make sure that a jail can be built here, and that Python runs in it.

    Raises:
      UserError: it cannot, or does not.
    """
    outcome = run("")
    if not outcome.passed:
        raise _no_jail(f"an empty program in it does not pass ({outcome.reason})")


def _no_jail(why: str) -> UserError:
    return UserError(
        f"generated code is not run, since no jail can be built: {why}; it needs Linux"
        " 5.12 with namespaces for its user (docs/graders.md)"
    )


def _report(job: dict[str, Any], seconds: float) -> str:
    """What the jail writes to its pipe."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        process = subprocess.Popen(
            [_python()["python"], "-I", "-S", "-B", _JAIL, "outside", str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            env={},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(writing)
    try:
        process.communicate(json.dumps(job).encode(), seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    try:
        return os.read(reading, 4096).decode("utf-8", "replace")
    except BlockingIOError:
        return ""
    finally:
        os.close(reading)


def _python() -> dict[str, Any]:
    """The interpreter, outside of any virtual environment, and what it reads."""
    program = os.path.realpath(sys.executable)
    folders = {sys.base_prefix, sys.base_exec_prefix, os.path.dirname(program)}
    return {"python": program, "readable": sorted(folders)}


def _is_text(program: str) -> bool:
    try:
        program.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_row(row: Fields) -> None:
    """Make sure that a row has what a program is made of.

    Raises:
      UserError: it lacks a text.
    """
    for field in ("prompt", "test", "entry_point"):
        if field not in row or not isinstance(row[field], str):
            raise UserError(f"no text {field!r}, which the tests of code need")
    if not row["entry_point"].isidentifier():
        raise UserError(f"entry_point {row['entry_point']!r} is no name of a function")


def program(answer: str, row: Fields) -> str:
    """The program that tests an answer: the last fenced block of one that has any, else
    all of it, after the prompt that it goes on from."""
    blocks = _FENCED.findall(answer)
    body = "\n" + blocks[-1] if blocks else answer
    call = f"check({row['entry_point']})"
    return f"{row['prompt']}{body}\n{row['test']}\n{call}\n"


def scores(answers: Sequence[str], rows: Sequence[Fields]) -> list[float]:
    """1 for each answer whose tests pass: several programs at once."""
    for row in rows:
        check_row(row)
    with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
        outcomes = pool.map(run, map(program, answers, rows))
        return [float(outcome.passed) for outcome in outcomes]
