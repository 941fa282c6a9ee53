"""What an export leaves alone, and what stands in the way of an import."""

from pathlib import Path

import pytest

from tests.interop.test_import import bring, call, put_together


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    bring(put_together(folder / "model"), folder / "run")
    return folder / "run"


def test_what_was_added_to_an_export_stays(
    run: Path, tmp_path: Path, mistake_here, monkeypatch
):
    out = tmp_path / "out"
    call("export", "--from", run, "--out", out)
    monkeypatch.chdir(out)
    call("export", "--from", run, "--out", ".")
    (out / "README.md").write_text("my model card")
    (out / ".git").mkdir()
    said = mistake_here("export", "--from", run, "--out", out)
    assert "holds something else" in said
    assert (out / "README.md").read_text() == "my model card"


def test_a_link_to_nowhere(run: Path, tmp_path: Path, mistake_here):
    out = tmp_path / "out"
    call("export", "--from", run, "--out", out)
    (out / "tokenizer.json").unlink()
    (out / "tokenizer.json").symlink_to(tmp_path / "gone")
    said = mistake_here("import", "--from", out, "--workdir", tmp_path / "again")
    assert "a link to one that is not there" in said
    said = mistake_here("import", "--from", "package:__main__", "--workdir", tmp_path)
    assert "not installed" in said
