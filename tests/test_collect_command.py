"""`genlm collect`: questions asked, rankings kept, undone, gone on with, exported."""

import io
import json
from pathlib import Path
import re
import sqlite3
import subprocess
import sys

import pytest

from genlm.cli import question
from genlm.cli.__main__ import main
from genlm.data import preferences
from genlm.data.ratings import Store
from tests.command import start
from tests.stages import made

PROMPTS = ("Why is the sky blue?", "return", "A list is", "é ☕")


@pytest.mark.parametrize(
    "line, ranks",
    [
        ("2 1 3", [2, 1, 3]),
        ("  3   1 2 ", [2, 3, 1]),
        ("2 1=3", [2, 1, 2]),
        ("2 1 = 3", [2, 1, 2]),
        ("1=2=3", [1, 1, 1]),
        ("3=1 2", [1, 2, 1]),
    ],
)
def test_a_ranking_is_read(line: str, ranks: list[int]):
    assert question.parse(line, 3) == ranks


@pytest.mark.parametrize("count", range(2, 10))
def test_the_examples_are_rankings(count: int):
    plain, tied = question._example(count).split(" or ")
    assert question.parse(plain, count) == [2, 1, *range(3, count + 1)]
    assert len(set(question.parse(tied, count))) < count


@pytest.mark.parametrize(
    "line, why",
    [
        ("", "not ranked: 1, 2, 3; rank all, as 2 1 3 or 2 1=3"),
        ("2 1", "not ranked: 3;"),
        ("2 1 3 3", "3 is there twice; rank each once"),
        ("4 1 2", "'4' is no answer; rank 1 to 3"),
        ("0 1 2", "'0' is no answer"),
        ("²  1 3", "'²' is no answer"),
        ("2 1= 3=", "a number is missing"),
        ("2,1,3", "'2,1,3' is no answer"),
        ("best", "'best' is no answer"),
        ("9" * 5000, "'99999999999999999999' is no answer"),
    ],
)
def test_what_is_no_ranking_says_what_would_be(line: str, why: str):
    with pytest.raises(question.Wrong, match=re.escape(why)):
        question.parse(line, 3)


def test_the_order_shown_is_of_seed_and_prompt_and_favours_no_place():
    assert question.shuffled("Q", 4, 0) == question.shuffled("Q", 4, 0)
    first = [question.shuffled(f"prompt {n}", 3, 7)[0] for n in range(600)]
    assert all(160 < first.count(i) < 240 for i in range(3))
    others = [question.shuffled(f"prompt {n}", 3, 8)[0] for n in range(600)]
    assert first != others


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return made.pretrained(tmp_path_factory.mktemp("collect_command"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prompts = "\n".join([PROMPTS[0], "", *PROMPTS, " "])  # one twice, two blank
    (tmp_path / "prompts.txt").write_text(prompts, "utf-8")
    return tmp_path


@pytest.fixture
def collect(run: Path, folder: Path, monkeypatch, capsys):
    """A session with some lines on standard input; what it printed."""

    def session(said: str, *more: object, store: str = "ratings.sqlite") -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        command = ["collect", *_options(run, folder, store), *map(str, more)]
        assert main(command) == 0
        return capsys.readouterr().out

    return session


def _options(run: Path, folder: Path, store: str = "ratings.sqlite") -> list[str]:
    command = ["--from", run, "--prompts", folder / "prompts.txt", "--store"]
    return [str(a) for a in (*command, folder / store, "--max-tokens", 4)]


def _shown(text: str) -> list[tuple[str, list[str]]]:
    """Each prompt asked and its answers as they stand on the screen."""
    found = []
    for part in re.split(r"^--- \d+ of \d+\n", text, flags=re.M)[1:]:
        prompt, *answers = re.split(r"\n\n\[\d\](?: \(cut off\))?\n    ", part)
        found.append((prompt, [a.split("\n\nbest first")[0] for a in answers]))
    return found


def test_rankings_are_of_what_was_shown(collect, folder: Path):
    out = collect("2 1 3\n1 2=3\n3 2 1\n1=2=3\n", "--annotator", "ann")
    shown = _shown(out)
    assert [prompt for prompt, _ in shown] == list(PROMPTS)
    assert "ann has ranked 4 of 4 prompts (4 now)\nrankings: ann 4" in out
    with Store(folder / "ratings.sqlite") as store:
        standing = store.standing()
    said = ([2, 1, 3], [1, 2, 2], [3, 2, 1], [1, 1, 1])
    for (prompt, texts), ranks, ranking in zip(shown, said, standing, strict=True):
        assert ranking.answered.prompt == prompt
        rank_of = dict(zip(ranking.answered.answers, ranking.ranks, strict=True))
        for text, rank in zip(texts, ranks, strict=True):
            (own,) = [a for a in rank_of if question._visible(a) == _plain(text)]
            assert rank_of[own] == rank
    settings = standing[0].answered.settings
    assert settings == {
        "answers": 3,
        "temperature": 0.8,
        "max_tokens": 4,
        "seed": 0,
        "checkpoint": "last",
    }
    assert len(standing[0].answered.model) == 64
    cut = [is_cut for ranking in standing for is_cut in ranking.answered.cut]
    assert out.count("] (cut off)\n") == sum(cut) > 6  # bytes drawn, four at most
    assert _shown(collect("", "--annotator", "ann")) == []


def _plain(text: str) -> str:
    """An answer without the margin that it is shown with."""
    return text.replace("\n    ", "\n")


def test_what_is_wrong_is_asked_again_and_the_end_keeps_all(collect):
    out = collect("1 2\nnonsense\n\xff\n1 2 3\n1 3 2\n")
    assert out.count("best first, as 2 1 3 or 2 1=3 (s skip, u undo, q quit): ") == 6
    assert "not ranked: 3; rank all" in out and "'nonsense' is no answer" in out
    line = "annotator1 has ranked 2 of 4 prompts (2 now); the same command goes on"
    assert line in out
    again = collect("q\n")
    assert [prompt for prompt, _ in _shown(again)] == [PROMPTS[2]]
    assert "ranked 2 of 4 prompts (0 now); the same" in again


def test_skip_and_undo(collect, folder: Path):
    out = collect("u\ns\n1 2 3\n3 2 1\nu\n2 1 3\nu\nu\nu\nQ\n")
    asked = [prompt for prompt, _ in _shown(out)]
    one, two, three, four = PROMPTS
    assert asked == [one, one, two, three, four, three, four, three, two, two]
    assert out.count("nothing to undo") == 2
    assert "annotator1 has ranked 0 of 4 prompts (0 now, 1 skipped)" in out
    with Store(folder / "ratings.sqlite") as store:
        assert store.standing() == []
    base = sqlite3.connect(folder / "ratings.sqlite")
    counts = [
        base.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("answers", "rankings", "revocations")
    ]
    base.close()
    assert counts == [4, 3, 3]
    assert [prompt for prompt, _ in _shown(collect("q\n"))] == [one]
    collect("1 2 3\n")
    assert "(-1 now)" in collect("u\n")  # of an earlier session


def test_others_are_shown_the_same_without_the_model(collect, folder, monkeypatch):
    first = _shown(collect("1 2 3\n" * 4, "--annotator", "ann"))
    alone = folder / "prompts.txt"
    alone.write_text("\n".join(reversed(PROMPTS)), "utf-8")
    monkeypatch.setattr("genlm.interop.run.open_run", None)
    out = collect("1 2 3\n2 1 3\n" * 2, "--annotator", "bob")
    assert sorted(_shown(out)) == sorted(first)
    assert "rankings: ann 4, bob 4" in out
    assert "ann and bob: 10 of 12 pairs of answers ordered alike (83.3%)" in out
    assert "Krippendorff's alpha" in out


def test_answers_are_of_seed_and_prompt_alone(collect, folder: Path):
    first = dict(_shown(collect("s\n" * 4)))
    (folder / "prompts.txt").write_text(PROMPTS[2], "utf-8")
    assert dict(_shown(collect("", store="new.sqlite"))) == {
        PROMPTS[2]: first[PROMPTS[2]]
    }
    other = dict(_shown(collect("", "--seed", 1)))
    assert other[PROMPTS[2]] != first[PROMPTS[2]]


@pytest.mark.slow
def test_the_same_answers_are_nothing_to_rank(collect):
    out = collect("", "--temperature", "1e-6")
    assert out.count("all answers are the same, nothing to rank: ") == 4
    assert "ranked 0 of 4 prompts (0 now, 4 skipped)" in out


def test_an_export_is_read_as_preferences(collect, folder: Path, capsys):
    collect("2 1 3\n1 2=3\n1 3 2\n", "--annotator", "ann")
    collect("3 1 2\n1 2 3\nu\nq\n", "--annotator", "bob")
    store, out = folder / "ratings.sqlite", folder / "out.jsonl"
    assert main(["collect", "--export", str(out), "--store", str(store)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: 4 rankings\nrankings: ann 3, bob 1\nann and bob: ")
    judged = list(preferences.read(str(out), form="rankings", strict=True))
    assert judged == list(preferences.read(str(out), strict=True))
    with Store(store) as opened:
        standing = opened.standing()
    for read, ranking in zip(judged, standing, strict=True):
        assert read.messages == [{"role": "user", "content": ranking.answered.prompt}]
        assert read.answers == ranking.answered.answers
        assert read.ranks == ranking.ranks and read.annotator == ranking.annotator
    rows = [json.loads(line) for line in out.read_text("utf-8").split("\n")[:-1]]
    assert {row["model"] for row in rows} == {standing[0].answered.model}


@pytest.mark.slow
def test_a_killed_session_goes_on(collect, run: Path, folder: Path):
    """A process of its own, killed while it waits for the third ranking."""
    command = ["collect", *_options(run, folder)]
    process = start(*command, stdin=subprocess.PIPE)
    process.stdin.write("1 2 3\n3 2 1\n")
    process.stdin.flush()
    seen = ""
    while "--- 3 of 4" not in seen:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        seen += line
    process.kill()
    process.communicate()
    out = collect("1 2 3\n")
    assert [prompt for prompt, _ in _shown(out)] == list(PROMPTS[2:])
    assert "ranked 3 of 4 prompts (1 now)" in out
    with Store(folder / "ratings.sqlite") as store:
        assert [r.answered.prompt for r in store.standing()] == list(PROMPTS[:3])


def test_text_on_the_screen_moves_no_cursor(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1 2\n")))
    ranks = question.ask(
        "1 of 1", "a\x1b[2Jb", ["x\n[2]\ny", "\r\n \t"], (True, False), 0
    )
    out = capsys.readouterr().out
    assert "a\\x1b[2Jb" in out and "\x1b" not in out and "\r" not in out
    assert "] (cut off)\n    x\n    [2]\n    y" in out and "]\n    (nothing)" in out
    assert sorted(ranks) == [1, 2]
