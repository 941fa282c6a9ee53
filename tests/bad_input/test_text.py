"""Mistakes in the text that a run is to learn from."""

import json
from pathlib import Path

import pytest

from genlm.stages import prepare
from tests.bad_input.recipes import overrides
from tests.command import contents, genlm, mistake
from tests.data_files import write_names


def _jsonl(*rows: object) -> bytes:
    return "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows).encode()


TEXTS = {
    "empty": (b"", "file", ["text.txt is empty"]),
    "white space": (b" \n\t \n\n", "file", ["nothing but white space"]),
    "white space in lines": (b" \n\t \n\n", "line", ["nothing but white space"]),
    "a single letter": (b"x", "file", ["one character"]),
    "NUL": (b"abc\n\0def" + bytes(range(256)), "file", ["NUL at byte 4", "iconv"]),
    "junk": (bytes(range(1, 256)) * 9, "line", ["not UTF-8", "at 127", "iconv"]),
    "cut off in a letter": ("abcé".encode()[:-1], "file", ["not UTF-8", "at 3"]),
    "bad after a mark": (b"\xef\xbb\xbfabc\xff", "file", ["not UTF-8", "at 6"]),
    "short": (b"To be or not\n", "file", ["data.row_length to 12 or less"]),
    "document": (b"To be\nor not\n", "lines", ["line 1", "file, line, blank_line"]),
    "not JSON": (
        _jsonl({"text": "a"}, "", '{"text": "b",}'),
        "text",
        ["text.txt line 3 is not JSON", "at column"],
    ),
    "deep JSON": (b"[" * 100_000, "text", ["line 1 is not JSON"]),
    "no field": (
        _jsonl({"text": "a"}, {"body": "b", "n": 1}),
        "text",
        ["text.txt line 2", "no text field 'text'", "text fields: body"],
    ),
    "field of numbers": (_jsonl({"text": 7}), "text", ["line 1", "text fields: none"]),
    "not an object": (_jsonl(["a"]), "text", ["line 1", "no text field 'text'"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str, prepare_only: Path, tmp_path: Path):
    raw, document, words = TEXTS[name]
    text, workdir = tmp_path / "text.txt", tmp_path / "run"
    text.write_bytes(raw)
    settings = {"data.paths": text, "data.document": document}
    line = mistake("run", prepare_only, "--workdir", workdir, *overrides(settings))
    assert all(word in line for word in words), line
    assert contents(workdir) == {}


PATHS = {
    "nothing": ["no file", "nothing"],
    "*.nothing": ["no file", "*.nothing"],
    "names.txt,nothing": ["no file", "nothing"],
    ".": ["is a folder", "/*.txt"],
    "link": ["link", "No such file"],
    "x" * 300: ["no file"],
    "": ["data.paths is empty", "embedded:python"],
    ",": ["data.paths is empty", "embedded:python"],
}


@pytest.mark.parametrize("name", PATHS)
def test_path(name: str, names: Path, prepare_only: Path, tmp_path: Path):
    (tmp_path / "names.txt").write_bytes(names.read_bytes())
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    paths = ",".join(str(tmp_path / part) if part else "" for part in name.split(","))
    workdir = tmp_path / "run"
    line = mistake(
        "run", prepare_only, "--workdir", workdir, f"--config.data.paths={paths}"
    )
    assert all(word in line for word in PATHS[name]), line
    assert contents(workdir) == {}


def test_a_name_that_is_no_text(prepare_only: Path, tmp_path: Path, monkeypatch):
    """It is read like any other; its name shows with a question mark."""
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    path = write_names(tmp_path / "caf\udce9.txt")
    command = ["run", prepare_only, "--workdir", tmp_path / "run"]
    said = genlm(*command, f"--config.data.paths={path}").stdout
    assert "caf?.txt: 0 duplicates" in said


PIN = "#sha256=" + "0" * 64
URLS = {
    "https://example.org/text.txt": ["sha256sum", "text.txt#sha256=HEX"],
    "https://example.org/text.txt#sha256=abc": ["sha256sum", "64 digits"],
    "http://127.0.0.1:1/text.txt" + PIN: ["refused", "offline", "--config.data.paths="],
    "http://nowhere.invalid/text.txt" + PIN: ["nowhere.invalid", "offline"],
    "https:///text.txt" + PIN: ["names no host"],
    "public:tinyshakespear": ["did you mean public:tinyshakespeare?", "names"],
    "public:": ["no public set ''", "tinyshakespeare"],
    "nothing.txt,public:shakespeare": ["no file nothing.txt"],
}


@pytest.mark.parametrize("paths", URLS)
def test_url(paths: str, prepare_only: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    workdir = tmp_path / "run"
    line = mistake(
        "run", prepare_only, "--workdir", workdir, f"--config.data.paths={paths}"
    )
    assert all(word in line for word in URLS[paths]), line
    assert contents(tmp_path) == {}


def test_bad_byte_past_the_first_part(prepare_only: Path, tmp_path: Path):
    line = "It was the best of times, it was the worst of times. \N{BULLET}\n".encode()
    raw = bytearray(line * ((9 << 20) // len(line)))
    where = (5 << 20) + 3
    raw[where] = 0xFF
    (tmp_path / "long.txt").write_bytes(raw)
    paths = f"--config.data.paths={tmp_path / 'long.txt'}"
    said = mistake("run", prepare_only, "--workdir", tmp_path / "run", paths)
    assert f"bad byte at {where};" in said


def test_json_lines_want_a_field(prepare_only: Path, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(_jsonl({"title": "a", "n": 1, "text": "b"}))
    paths = f"--config.data.paths={path}"
    said = mistake("run", prepare_only, "--workdir", tmp_path / "run", paths)
    assert "data.document" in said and "(title, text)" in said


VOCABULARIES = {
    ("bpe", 10): "or more",
    ("unigram", 200): "or more",
    ("bpe", 100_000): "or less",
    ("unigram", 100_000): "or less",
    ("bpe", 0): "not positive",
    ("byts", 300): "byte, bpe, unigram or run",
}


@pytest.mark.parametrize("kind, size", VOCABULARIES)
def test_vocabulary(kind, size, prepare_only: Path, names: Path, tmp_path: Path):
    settings = {
        "data.paths": names,
        "tokenizer.kind": kind,
        "tokenizer.vocab_size": size,
    }
    workdir = tmp_path / "run"
    line = mistake("run", prepare_only, "--workdir", workdir, *overrides(settings))
    assert VOCABULARIES[kind, size] in line and "tokenizer." in line
    assert contents(workdir) == {}


def test_a_text_that_changes_while_it_is_read(
    names: Path, prepare_only: Path, tmp_path: Path, monkeypatch, mistake_here
):
    text = tmp_path / "text.txt"
    text.write_bytes(names.read_bytes())
    write = prepare._write

    def write_while_it_changes(*arguments):
        text.write_bytes(names.read_bytes() + b"one more\n")
        return write(*arguments)

    monkeypatch.setattr(prepare, "_write", write_while_it_changes)
    paths = f"--config.data.paths={text}"
    said = mistake_here("run", prepare_only, "--workdir", tmp_path / "run", paths)
    assert "a file changed while it was read; run again" in said
    assert not (tmp_path / "run").exists()
