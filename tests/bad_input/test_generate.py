"""Mistakes in what to generate from, and what is none."""

import json
from pathlib import Path
import subprocess

import pytest

from tests.bad_input.recipes import NAMES, overrides
from tests.command import genlm, mistake, start

GENERATE = {
    "a folder that is not there": (["--from", "nothing"], "no directory nothing"),
    "a file": (["--from", "README.md"], "no directory README.md"),
    "max-tokens": (["--from", ".", "--max-tokens", "0"], "--max-tokens 0"),
    "seed": (["--from", ".", "--seed", "-1"], "--seed -1"),
    "prompts": (["--from", ".", "--prompts", "nothing"], "nothing: No such file"),
    "prompts of a folder": (["--from", ".", "--prompts", "."], "Is a directory"),
    "no prompts": (["--from", ".", "--prompts", "/dev/null"], "/dev/null is empty"),
    "not UTF-8": (["--from", ".", "--prompt", "caf\udce9"], "not UTF-8"),
    "a folder not UTF-8": (["--from", "caf\udce9"], "--from 'caf\\udce9' is not UTF-8"),
}


@pytest.mark.parametrize("name", GENERATE)
def test_generate(name: str):
    arguments, words = GENERATE[name]
    assert words in mistake("generate", *arguments)


def test_generate_from_bytes_that_are_no_text(folder: Path):
    line = mistake("generate", "--from", folder, "--prompts", "-", input="", text=True)
    assert "standard input is empty" in line
    line = _bytes_mistake(folder, b"good\nbad \xff\n")
    assert "standard input is not UTF-8: bad byte at 9" in line


def _bytes_mistake(source: Path, raw: bytes) -> str:
    process = start(
        *("generate", "--from", source, "--prompts", "-"),
        stdin=subprocess.PIPE,
        text=False,
    )
    _, said = process.communicate(raw)
    assert process.returncode == 1 and said.count(b"\n") == 1, said
    return said.decode()


WITH_A_RUN = {
    "--checkpoint 999": "has no checkpoint '999'; steps: [1, 2]",
    "--checkpoint ²": "has no checkpoint '²'",
    "--temperature -1": "temperature -1.0",
    "--temperature nan": "temperature nan",
    "--temperature 1e-40": "temperature 1e-40 is below 1e-06; 0 takes",
    "--top-p 0": "top_p 0.0",
    "--top-p 1.5": "top_p 1.5",
    "--top-k -1": "top_k -1",
    "--max-tokens 2000000000": "2000000000 tokens for 1 prompt(s) need",
    "--max-tokens 3000000000": "are free; ask for fewer tokens",
}


@pytest.mark.parametrize("option", WITH_A_RUN)
def test_generate_with_a_run(option: str, run: Path, mistake_here):
    said = mistake_here("generate", "--from", run, *option.split())
    assert WITH_A_RUN[option] in said


def test_generate_from_what_holds_no_model(run: Path, tmp_path: Path, mistake_here):
    for path in (tmp_path, run / "data"):
        assert f"{path} holds no model" in mistake_here("generate", "--from", path)


def test_generate_from_a_damaged_checkpoint(copy: Path):
    for step in (1, 2):
        next((copy / f"checkpoints/{step}/params/ocdbt.process_0/d").iterdir()).unlink()
    done = genlm("generate", "--from", copy, code=1)
    *passed_over, line = done.stderr.splitlines()
    assert [n.split(" is ")[0] for n in passed_over] == ["checkpoint 2", "checkpoint 1"]
    assert "has no whole checkpoint" in line


def _other_number(raw: bytes) -> bytes:
    return raw.replace(b'"num_layers": 2', b'"num_layers": 3')


DAMAGES = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "a list": lambda raw: b"[]",
    "null": lambda raw: b"null",
    "other keys": lambda raw: b'{"kind": "gguf", "model": 1}',
    "bytes": lambda raw: b"\xff\0" + raw,
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", ["model.json", "tokenizer/tokenizer.json"])
def test_damaged_description(name: str, finished: bool, copy: Path, mistake_here):
    if not finished:  # a run that goes on has no hashes yet
        (copy / "lineage.json").unlink()
    path = copy / name
    whole = path.read_bytes()
    damages = [*DAMAGES.values()] + [_other_number] * (name == "model.json")
    for damage in damages:
        path.write_bytes(damage(whole))
        assert path.name in mistake_here("generate", "--from", copy)


def test_damaged_pieces(prepare_only: Path, names: Path, tmp_path: Path, mistake_here):
    settings = {"data.paths": names, "data.document": "line", "tokenizer.kind": "bpe"}
    genlm("run", prepare_only, "--workdir", tmp_path / "data", *overrides(settings))
    path = tmp_path / "data/tokens/tokenizer/tokenizer.model"
    whole = path.read_bytes()
    prepared = f"--config.data.prepared={tmp_path / 'data'}"
    command = ["run", NAMES, "--workdir", tmp_path / "run", prepared]
    for raw in (b"", b"junk", whole[:1000], whole.replace(b"\n", b"\xff")):
        path.write_bytes(raw)
        assert path.name in mistake_here(*command)
    path.unlink()
    assert path.name in mistake_here(*command)


@pytest.mark.slow
def test_closed_pipe_says_nothing(run: Path):
    process = start("generate", "--from", run, "--max-tokens", "4")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_output_that_takes_no_such_letter(run: Path, monkeypatch):
    """What it lacks shows as a question mark, and nothing else changes."""
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    command = ["generate", "--from", run, "--max-tokens", "4", "--prompt", "café ☕"]
    assert genlm(*command, encoding="latin-1").stdout.startswith("café ?")


@pytest.mark.slow
def test_prompts(run: Path, tmp_path: Path):
    lines = ["the", "", "café\r"]
    path = tmp_path / "prompts.txt"
    path.write_bytes("\n".join(lines).encode() + b"\n")
    command = ["generate", "--from", run, "--max-tokens", "4", "--json"]
    command += ["--prompt", "a", "--prompts"]
    from_file = genlm(*command, path).stdout
    rows = [json.loads(line) for line in from_file.splitlines()]
    assert [row["prompt"] for row in rows] == ["a", "the", "", "café"]
    assert genlm(*command, "-", input=path.read_text("utf-8")).stdout == from_file
