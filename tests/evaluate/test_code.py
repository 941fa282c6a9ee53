"""Generated programs in their jail: honest ones, broken ones and hostile ones."""

import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Iterator

import pytest

from genlm.errors import UserError
from genlm.evaluate import code, graders
from genlm.evaluate.code import Limits, run
from tests.data_files import shared

QUICK = Limits(seconds=1.0)
ROW = {
    "prompt": 'def add(a, b):\n    """The sum."""\n',
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}


PYTHON = "/usr/bin/python3"  # that another user may read too


def _has_namespaces(**user: object) -> bool:
    """Asked of the system, not of the jail, so that a broken jail fails its tests."""
    mapped = [] if os.getuid() == 0 and not user else ["--user", "--map-root-user"]
    kinds = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"]
    try:
        done = subprocess.run(
            ["unshare", *mapped, *kinds, "true"], capture_output=True, cwd="/", **user
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


needs_jail = pytest.mark.skipif(
    not _has_namespaces(), reason="the system gives no namespaces (unshare)"
)


def test_there_is_a_jail_where_the_system_gives_namespaces():
    """And where it gives none, one line says so before anything is run."""
    if _has_namespaces():
        code.require_jail()
    else:
        with pytest.raises(UserError, match="not run"):
            code.require_jail()


ANSWERS = {
    "the body": ("    return a + b\n", 1),
    "nothing": ("", 0),
    "a wrong body": ("    return a - b\n", 0),
    "no Python": ("    return a +\n", 0),
    "a block": ("Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", 1),
    "the last block": ("```\nx\n```\n```py\ndef add(a, b): return a + b\n```", 1),
    "an open block": ("```python\ndef add(a, b):\n    return a + b", 1),
}


@needs_jail
@pytest.mark.parametrize("name", ANSWERS)
def test_tests_decide(name: str):
    answer, score = ANSWERS[name]
    assert code.scores([answer], [ROW]) == [score]


HOSTILE = {  # a program, and what is said of it
    "an endless loop": ("while True: pass", "time is over"),
    "sleep": ("import time\ntime.sleep(60)", "time is over"),
    "a fork bomb": ("import os\nwhile True: os.fork()", "BlockingIOError"),
    "a thread": (
        "import threading\nthreading.Thread(target=print).start()",
        "can't start new thread",
    ),
    "memory": ("x = bytearray(4 << 30)", "MemoryError"),
    "memory bit by bit": (
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "MemoryError",
    ),
    "a full disk": (
        "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        "No space left|File too large",
    ),
    "many files": (
        "for n in range(10**6): open(str(n), 'w').close()",
        "No space left",
    ),
    "the network": (
        "import socket\nsocket.create_connection(('1.1.1.1', 80), timeout=1)",
        "Network is unreachable",
    ),
    "a write to the libraries": ("open('/usr/x', 'w')", "Read-only file system"),
    "accounts": ("open('/etc/passwd').read()", "No such file"),
    "processes": ("import os\nos.listdir('/proc')", "No such file"),
    "devices": ("import os\nos.listdir('/dev')", "No such file"),
    "root": ("import os\nos.setuid(0)", "not permitted|Invalid argument"),
    "higher limits": (
        "import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))",
        "not allowed to raise",
    ),
    "a crash": ("import ctypes\nctypes.string_at(0)", "ended before its last line"),
    "an early exit": ("import sys\nsys.exit(0)", "SystemExit: 0"),
    "an early hard exit": ("import os\nos._exit(0)", "ended before its last line"),
    "a printed mark": ("print('passed', 1, True)\nraise SystemExit", "SystemExit"),
    "marks everywhere": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'passed')\n"
        "    except OSError: pass\nos._exit(0)",
        "passed",
    ),
    "a flood of marks": (
        "import os\nfor n in range(3, 64):\n    try:\n"
        "        while True: os.write(n, bytes(1 << 16))\n    except OSError: pass",
        "",
    ),
    "half a character": ("x = '\ud800'", "no text of a program"),
    "a long one": ("#" * (1 << 21), "no text of a program"),
}


@needs_jail
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_do_not_pass(name: str):
    program, words = HOSTILE[name]
    begun = time.monotonic()
    outcome = run(program, QUICK)
    assert not outcome.passed
    assert any(each in outcome.reason for each in words.split("|")), outcome
    assert time.monotonic() - begun < 8


def _seen(what: str) -> str:
    """What a program in the jail finds."""
    return run(f"import os, sys\nraise ValueError({what})", QUICK).reason


@needs_jail
def test_it_sees_nothing_of_its_host():
    assert os.environ["PATH"] not in _seen("dict(os.environ)")
    assert _seen("os.getuid(), os.getpid()") == "ValueError: (65534, 1)"
    roots = _seen("sorted(os.listdir('/'))")
    assert "home" not in roots and "tmp" not in roots and "proc" not in roots
    here = str(Path(__file__).resolve())
    assert _seen(f"os.path.exists({here!r})") == "ValueError: False"
    assert (
        _seen("'site' in sys.modules, sys.flags.isolated") == "ValueError: (False, 1)"
    )
    assert _seen("len(os.listdir('.'))") == "ValueError: 1"  # the program itself


@needs_jail
def test_a_server_of_the_host_is_out_of_reach():
    """Not even on the loopback, nor by an abstract socket."""
    abstract = f"\0genlm test {os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(
        socket.AF_UNIX
    ) as other:
        other.bind(abstract)
        other.listen()
        ask = "import socket\ns = socket.socket({})\ns.connect({!r})"
        inet = ask.format("", server.getsockname())
        assert "unreachable" in run(inet, QUICK).reason
        unix = ask.format("socket.AF_UNIX", abstract)
        assert "Connection refused" in run(unix, QUICK).reason


@needs_jail
def test_nothing_that_it_writes_outlives_it(tmp_path: Path):
    """Its folder and the root above it are memory of its own."""
    above = "try: open('/y', 'w')\nexcept OSError: pass"
    assert run(f"open('x', 'w').write('a')\n{above}").passed
    assert not Path("/y").exists() and not Path("/program").exists()
    kept = tmp_path / "kept"
    assert "No such file" in run(f"open({str(kept)!r}, 'w')", QUICK).reason
    assert not kept.exists()


@needs_jail
def test_a_new_user_namespace_unlocks_nothing():
    """Where the kernel lets it have one, its mounts stay read-only."""
    program = """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.unshare(0x10000000 | 0x20000)
        libc.mount(b"none", b"/usr", None, 32 | 4096, None)
        libc.mount(b"none", b"/usr", None, 32, None)
        open("/usr/x", "w")
    """
    lines = "\n".join(line[8:] for line in program.splitlines())
    assert "Read-only file system" in run(lines, QUICK).reason


@needs_jail
def test_what_is_not_prevented():
    """An answer that fools its tests in their own process: docs/graders.md says so."""
    equal = "class Any:\n    def __eq__(self, other): return True\n"
    fooled = f"    return Any()\n{equal}"
    assert code.scores([fooled], [ROW]) == [1]


@needs_jail
def test_human_eval():
    """All reference bodies pass, and no empty body does."""
    text = shared("verifiable/human_eval.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    right = code.scores([row["canonical_solution"] for row in rows], rows)
    assert len(rows) == sum(right) == 100
    assert sum(code.scores([""] * 100, rows)) == 0


@needs_jail
def test_code_in_a_weighted_sum():
    weights = {"code": 1.0, "length": -0.1}
    answers = ["    return a + b", "    return a"]
    found = graders.grade_all(weights, answers, [ROW, ROW], run_code=True)
    assert found.total == pytest.approx([0.6, -0.2])


@pytest.mark.parametrize(
    "row, words",
    [
        ({"prompt": ""}, "no text 'test', which the tests of code need"),
        (ROW | {"prompt": 3}, "no text 'prompt'"),
        (ROW | {"entry_point": "a b"}, "'a b' is no name of a function"),
    ],
)
def test_what_is_wrong_with_a_row(row: dict, words: str):
    with pytest.raises(UserError, match=words):
        code.check_row(row)


def test_nothing_is_run_where_no_jail_can_be_built(tmp_path: Path, monkeypatch):
    """A kernel that refuses is one line, and the program has not begun."""
    jail = tmp_path / "jail.py"
    text = code._JAIL.read_text("utf-8")
    refusing = (
        "def _enter_namespaces() -> None:\n    raise PermissionError(1, 'unshare')"
    )
    jail.write_text(text.replace("def _enter_namespaces() -> None:", refusing))
    monkeypatch.setattr(code, "_JAIL", jail)
    with pytest.raises(
        UserError, match="not run, since no jail.*unshare; it needs Lin"
    ):
        run("x = 1")


def test_a_jail_in_which_python_does_not_run_is_said(monkeypatch):
    """Else every program would be graded as wrong."""
    monkeypatch.setattr(code, "run", lambda _: code.Outcome(False, "libpython.so"))
    with pytest.raises(UserError, match=r"an empty program .* not pass \(libpython.so"):
        code.require_jail.__wrapped__()


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that any user may read, wherever the project itself lies."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.skipif(not os.path.exists(PYTHON), reason=f"no {PYTHON}")
def test_as_another_user_too(readable: Path):
    """Where we are root, the way of those who are not: a jail, or one line."""
    other = {"user": 65533, "group": 65533, "extra_groups": []}
    package = Path(code.__file__).resolve().parents[1]
    shutil.copytree(
        package, readable / "genlm", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in readable.rglob("*"):
        path.chmod(0o755)
    program = f"""
import sys
sys.path.insert(0, {str(readable)!r})
from genlm.errors import UserError
from genlm.evaluate import code
quick = code.Limits(seconds=1.0)
try:
    print(code.run("x = 1").passed, code.run("import os; os.fork()", quick).passed)
except UserError as error:
    print(error)
"""
    said = subprocess.run(
        [PYTHON, "-B", "-c", program], capture_output=True, text=True, cwd="/", **other
    )
    assert said.returncode == 0, said.stderr
    if _has_namespaces(**other):
        assert said.stdout == "True False\n"
    else:
        assert "not run" in said.stdout and said.stdout.count("\n") == 1
