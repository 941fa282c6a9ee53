"""A folder that takes another's place, and the kill in between."""

from pathlib import Path
import signal
import subprocess
import sys

import pytest

from genlm.errors import UserError
from genlm.runs import directory

KILLED = """
import os, pathlib, signal, sys
from genlm.runs import directory
rename, calls, last = pathlib.Path.rename, [], int(sys.argv[2])
def counted(path, target):
    calls.append(path)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
pathlib.Path.rename = counted
with directory.filling(pathlib.Path(sys.argv[1])) as folder:
    (folder / "what").write_text("new")
"""


def fill(folder: Path, text: str) -> None:
    with directory.filling(folder) as partial:
        (partial / "what").write_text(text)


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_at_either_rename_leaves_what_was_there(rename: int, tmp_path: Path):
    folder = tmp_path / "out"
    fill(folder, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(rename)])
    assert done.returncode == -signal.SIGKILL
    kept = folder if folder.exists() else tmp_path / ".out.genlm-replaced"
    assert (kept / "what").read_text() == "old"
    with pytest.raises(KeyError), directory.filling(folder):
        raise KeyError
    assert (folder / "what").read_text() == "old"
    fill(folder, "newer")
    assert (folder / "what").read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("last", [1, 2])
def test_a_rename_that_fails_changes_nothing(
    last: int, error: type[BaseException], tmp_path: Path, monkeypatch
):
    folder, rename, calls = tmp_path / "out", Path.rename, []
    fill(folder, "old")

    def failing(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == last:
            raise error("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((UserError, KeyboardInterrupt)):
        fill(folder, "new")
    assert (folder / "what").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_block_that_fails_changes_nothing(tmp_path: Path):
    folder = tmp_path / "out"
    fill(folder, "old")
    with pytest.raises(KeyError):
        with directory.filling(folder) as partial:
            (partial / "what").write_text("new")
            raise KeyError
    assert (folder / "what").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
