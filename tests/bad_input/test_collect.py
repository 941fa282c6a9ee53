"""Mistakes in what to collect, and where to keep it."""

from pathlib import Path
import shutil

import pytest

from genlm.data.ratings import Store
from tests.command import genlm, mistake

ASK = ["--from", ".", "--prompts", "README.md"]
COLLECT = {
    "nothing": ([], "give --from DIR and --prompts FILE, or --export FILE"),
    "no prompts": (["--from", "."], "give --from DIR and --prompts FILE"),
    "a folder that is not there": (
        ["--from", "nothing", "--prompts", "README.md"],
        "--from: no directory nothing",
    ),
    "prompts that are not there": (
        ["--from", ".", "--prompts", "nothing"],
        "cannot read --prompts nothing: No such file",
    ),
    "empty prompts": (["--from", ".", "--prompts", "/dev/null"], "/dev/null is empty"),
    "prompts of stdin": (["--from", ".", "--prompts", "-"], "name a file"),
    "no model": ([*ASK, "--from", "docs"], "docs holds no model"),
    "one answer": ([*ASK, "--answers", "1"], "--answers 1 is not from 2 to 9"),
    "ten answers": ([*ASK, "--answers", "10"], "--answers 10 is not from 2 to 9"),
    "max-tokens": ([*ASK, "--max-tokens", "0"], "--max-tokens 0 is not positive"),
    "temperature": ([*ASK, "--temperature", "0"], "makes all answers the same"),
    "seed": ([*ASK, "--seed", "-1"], "--seed -1 is not from 0"),
    "no name": ([*ASK, "--annotator", " "], "--annotator ' ' is no name"),
    "a name of two lines": ([*ASK, "--annotator", "a\nb"], "'a\\nb' is no name"),
    "asking and exporting": ([*ASK, "--export", "x"], "leave out --from and --prompts"),
    "no store": (
        ["--export", "x", "--store", "nothing"],
        "no store nothing; genlm col",
    ),
    "a store that is none": (
        ["--export", "x", "--store", "README.md"],
        "--store README.md: file is not a database",
    ),
    "a store that is a folder": (
        ["--export", "x", "--store", "docs"],
        "--store docs: unable to open database file",
    ),
}


@pytest.mark.parametrize("name", COLLECT)
def test_collect(name: str, mistake_here):
    arguments, words = COLLECT[name]
    assert words in mistake_here("collect", *arguments)
    assert not Path("x").exists()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("the\nend\n")
    return path


def test_prompts_that_are_blank(prompts: Path, mistake_here):
    prompts.write_text(" \n\n")
    said = mistake_here("collect", "--from", ".", "--prompts", prompts)
    assert f"{prompts} has blank lines only" in said


def test_collect_with_a_run(run: Path, prompts: Path, tmp_path: Path, mistake_here):
    command = ["collect", "--from", run, "--prompts", prompts, "--store"]
    assert "file is not a database" in mistake_here(*command, "README.md")
    assert "unable to open" in mistake_here(*command, tmp_path / "none" / "x.sqlite")
    store = tmp_path / "x.sqlite"
    said = mistake_here(*command, store, "--temperature", "nan")
    assert "temperature nan" in said
    said = mistake_here(*command, store, "--checkpoint", "999")
    assert "has no checkpoint '999'" in said
    assert "x.sqlite holds no ranking yet" in mistake_here(
        "collect", "--export", tmp_path / "out", "--store", store
    )


def test_an_unfinished_run_is_not_ranked(copy: Path, prompts: Path, mistake_here):
    (copy / "lineage.json").unlink()
    said = mistake_here("collect", "--from", copy, "--prompts", prompts)
    assert f"{copy} is not finished" in said
    assert not Path("ratings.sqlite").exists()


def test_an_export_that_cannot_be_written(tmp_path: Path, mistake_here):
    path = tmp_path / "x.sqlite"
    with Store(path, make=True) as store:
        store.rank(store.keep("m", {}, "Q", ["a", "b"], [True, False]), "ann", (1, 2))
    command = ["collect", "--store", path, "--export"]
    assert "none/out.jsonl: No such" in mistake_here(
        *command, tmp_path / "none/out.jsonl"
    )
    assert "Is a directory" in mistake_here(*command, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.sqlite"]


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_ranked(run: Path, prompts: Path, tmp_path: Path):
    """The session ends with one line, and the store opens again."""
    store = tmp_path / "x.sqlite"
    command = ["collect", "--from", run, "--prompts", prompts, "--store", store]
    command += ["--max-tokens", "4"]
    genlm(*command, input="1 2 3\n")
    fuller = shutil.copy(prompts, tmp_path / "more.txt")
    fuller.write_text("\n".join(f"{n} {'x' * 100}" for n in range(40)))
    command[4] = fuller
    said = mistake(*command, input="1 2 3\n" * 40, file_bytes=50_000)
    assert f"--store {store}: " in said
    with Store(store) as opened:
        standing = opened.standing()
    assert standing and standing[0].answered.prompt == "the"
