"""The store of rankings: what is added stays, through kills and other programs."""

from pathlib import Path
import signal
import sqlite3
import subprocess
import sys

import pytest

from genlm.data.ratings import Store
from genlm.errors import UserError
from tests.command import ROOT

SETTINGS = {"seed": 0, "temperature": 0.8}
CUT = (True, False, False)
ANSWERS = ("one", "two\u2028\0", "é ☕")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ratings.sqlite"


def _filled(path: Path) -> None:
    with Store(path, make=True) as store:
        kept = store.keep("model", SETTINGS, "Q", ANSWERS, CUT)
        number = store.rank(kept, "ann", (2, 1, 2))
        store.revoke(number)
        store.rank(kept, "ann", (3, 1, 2))


def test_what_is_added_is_read(path: Path):
    with Store(path, make=True) as store:
        assert store.answered("model", SETTINGS, "Q") is None
        kept = store.keep("model", SETTINGS, "Q", ANSWERS, CUT)
        assert store.answered("model", dict(reversed(SETTINGS.items())), "Q") == kept
        assert store.keep("model", SETTINGS, "Q", ["other"], [True]) == kept
        for model, settings, prompt in (
            ("other", SETTINGS, "Q"),
            ("model", {**SETTINGS, "seed": 1}, "Q"),
            ("model", SETTINGS, "R"),
        ):
            assert store.answered(model, settings, prompt) is None
        store.rank(kept, "ann", (2, 1, 2))
    with Store(path) as store:
        (ranking,) = store.standing()
        assert ranking.answered == kept and kept[-2:] == (ANSWERS, CUT)
        assert (ranking.annotator, ranking.ranks) == ("ann", (2, 1, 2))
        assert ranking.time.endswith("+00:00") and "T" in ranking.time


def test_what_is_taken_back_or_given_anew_does_not_stand(path: Path):
    with Store(path, make=True) as store:
        kept = store.keep("model", SETTINGS, "Q", ANSWERS, CUT)
        first = store.rank(kept, "ann", (1, 2, 3))
        store.rank(kept, "bob", (1, 2, 3))
        second = store.rank(kept, "ann", (3, 2, 1))
        assert [r.annotator for r in store.standing()] == ["bob", "ann"]
        assert store.standing()[1].ranks == (3, 2, 1)
        store.revoke(second)
        assert {r.number for r in store.standing()} == {first, 2}
        store.revoke(first)
        assert [r.annotator for r in store.standing()] == ["bob"]
    base = sqlite3.connect(path)
    assert base.execute("SELECT count(*) FROM rankings").fetchone() == (3,)
    base.close()


def test_no_program_changes_or_deletes_a_row(path: Path):
    _filled(path)
    base = sqlite3.connect(path)
    before = list(base.iterdump())
    for table in ("answers", "rankings", "revocations"):
        columns = base.execute(f"SELECT * FROM {table}").fetchone()
        marks = ", ".join("?" * len(columns))
        for act in (
            f"UPDATE {table} SET time = ''",
            f"DELETE FROM {table}",
            f"REPLACE INTO {table} VALUES ({marks})",
        ):
            with pytest.raises(
                sqlite3.IntegrityError, match="rows are added, and stay"
            ):
                base.execute(act, columns if "?" in act else ())
    assert list(base.iterdump()) == before
    base.close()


def _refused(path: Path, make: bool = True) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UserError) as error:
        Store(path, make)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_store_is_left_as_it_is(path: Path, tmp_path: Path):
    assert "no store" in _refused(path, make=False)
    assert "unable to open" in _refused(tmp_path)
    assert "unable to open" in _refused(tmp_path / "none" / "x.sqlite")
    path.write_bytes(b"")
    assert "is empty" in _refused(path, make=False)
    path.write_text("best first: 2 1 3\n" * 100)
    assert "file is not a database" in _refused(path)
    path.unlink()
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE notes (text)")
    base.commit()
    assert "a database of another program" in _refused(path)
    base.close()
    path.unlink()
    _filled(path)
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 2")
    base.close()
    assert "a store of version 2, and this genlm knows version 1" in _refused(path)


def test_a_damaged_store_is_said(path: Path):
    _filled(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    with pytest.raises(UserError, match="ratings.sqlite: .*malformed"):
        with Store(path) as store:
            store.standing()


WRITER = """
import itertools, sys
from pathlib import Path
from genlm.data.ratings import Store
with Store(Path(sys.argv[1]), make=True) as store:
    for n in itertools.count():
        kept = store.keep(
            "model", {}, f"{sys.argv[2]} {n}", ["a", "b" * 5000], [True, False]
        )
        number = store.rank(kept, "ann", (1, 2))
        if n % 3 == 2:
            store.revoke(number)
        print(number, n % 3 == 2, flush=True)
"""


def _killed(code: str, *arguments: object, after: int) -> list[str]:
    """The lines that a second process wrote before it was killed in its work."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL
    assert all(line.endswith("\n") for line in lines)
    return [line.strip() for line in lines]


def test_a_kill_loses_nothing_that_was_told(path: Path):
    """At most the one ranking, or its revocation, that was on its way is more."""
    standing: set[int] = set()
    for round, after in enumerate((1, 2, 7, 20, 41)):
        for line in _killed(WRITER, path, round, after=after):
            number, is_revoked = line.split()
            if is_revoked == "False":
                standing.add(int(number))
        with Store(path) as store:
            found = {ranking.number for ranking in store.standing()}
            assert standing <= found and len(found - standing) <= 1
            standing = found
        base = sqlite3.connect(path)
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert base.execute("PRAGMA foreign_key_check").fetchall() == []
        base.close()


MAKER = """
import itertools, sys
from pathlib import Path
from genlm.data.ratings import Store
for n in itertools.count():
    Store(Path(sys.argv[1], f"{n}.sqlite"), make=True).__exit__()
    print(n, flush=True)
"""


@pytest.mark.parametrize("after", [1, 3, 10])
def test_a_kill_while_a_store_is_made(tmp_path: Path, after: int):
    _killed(MAKER, tmp_path, after=after)
    made = sorted(tmp_path.glob("*.sqlite"))
    assert len(made) >= after
    for path in made:
        with Store(path, make=True) as store:
            store.rank(store.keep("model", {}, "Q", ANSWERS, CUT), "ann", (1, 2, 3))
            assert len(store.standing()) == 1


def test_two_processes_write_one_store(path: Path):
    """Neither is refused, and both end with the same answers."""
    code = """
import sys
from pathlib import Path
from genlm.data.ratings import Store
with Store(Path(sys.argv[1]), make=True) as store:
    for n in range(30):
        kept = store.keep("model", {}, f"{n}", [sys.argv[2], "b"], [True, False])
        store.rank(kept, sys.argv[2], (1, 2))
"""
    both = [
        subprocess.Popen([sys.executable, "-c", code, path, name], cwd=ROOT)
        for name in ("ann", "bob")
    ]
    assert [process.wait() for process in both] == [0, 0]
    with Store(path) as store:
        standing = store.standing()
    assert len(standing) == 60
    assert len({ranking.answered.number for ranking in standing}) == 30
