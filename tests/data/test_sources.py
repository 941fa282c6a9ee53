"""Sources: what a document is, and that the cut into parts changes nothing."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data import sources
from genlm.data.clean import clean, clean_document
from genlm.errors import UserError


def _read(path: Path | str, document: str) -> list[str]:
    return ["".join(d.parts()) for d in sources.read(str(path), document)]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "text.txt"


@pytest.fixture(params=[3, 16, 1 << 20])
def part_bytes(request, monkeypatch) -> int:
    monkeypatch.setattr(sources, "PART_BYTES", request.param)
    return request.param


def test_a_file_is_one_document_that_reads_again_and_again(file, part_bytes):
    text = "One.\n\n  Two é\u2028three\r\n\tfour"
    file.write_bytes(text.encode())
    (document,) = sources.read(str(file), "file")
    assert "".join(document.parts()) == "".join(document.parts()) == text
    assert document.source == str(file)


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines(file, part_bytes, newline: str, end: str):
    lines = ["first", "", "  indented é", " ", "a\u2028b\x85c\x0bd", "last"]
    file.write_bytes((newline.join(lines) + end).encode())
    assert _read(file, "line") == [line for line in lines if line.strip()]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blank_lines_part_documents(file, part_bytes, newline: str):
    text = "\n\nOne\n two\n\n \nThree\u2028\n\n\n\nFour\n"
    file.write_bytes(text.replace("\n", newline).encode())
    assert _read(file, "blank_line") == ["One\n two", "Three\u2028", "Four"]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_field_of_json_lines(tmp_path, part_bytes, newline: str, ascii_only: bool):
    texts = ["plain", "two\nlines", "a\u2028b\u2029c\x85d", "é 🙂", 'say "so"', "  "]
    rows = [json.dumps({"id": 1, "text": t}, ensure_ascii=ascii_only) for t in texts]
    path = tmp_path / "rows.jsonl"
    path.write_bytes((newline.join(rows) + newline + newline).encode())
    assert _read(path, "text") == texts[:-1]  # what is blank is no document


def test_documents_say_where_they_are_from(file):
    file.write_text("one\n\nthree\n")
    assert [d.source for d in sources.read(str(file), "line")] == [
        f"{file}#1",
        f"{file}#3",
    ]


def test_a_byte_order_mark_is_not_text(file, part_bytes):
    file.write_bytes(b"\xef\xbb\xbfone\ntwo")
    assert _read(file, "file") == ["one\ntwo"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
def test_parts_are_the_whole(tmp_path_factory, text: str):
    path = tmp_path_factory.getbasetemp() / "parts.txt"
    path.write_bytes(text.encode())
    for size in (1, 2, 3, 7, 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "PART_BYTES", size)
            assert "".join(sources.parts(path)) == text


words = st.sampled_from(["a", "bc", "é", "e\u0301e", "🙂"])
spaces = st.sampled_from(
    ["\n", "\n\n", " ", "   ", "\t", "\r\n", " \n", "\n\n\n\n", "\n "]
)


@given(st.lists(st.tuples(words, spaces)), st.sampled_from(["", "\n\n\n", "  "]))
def test_a_document_cleaned_in_parts_is_the_whole_cleaned(
    tmp_path_factory, pieces: list[tuple[str, str]], first: str
):
    text = first + "".join(word + space for word, space in pieces)
    path = tmp_path_factory.getbasetemp() / "cleaned.txt"
    path.write_bytes(text.encode())
    for size in (24, 32, 40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "PART_BYTES", size)
            document = sources.Document("", lambda: sources.parts(path))
            parts = list(clean_document(document).parts())
        assert "".join(parts) == clean(text)


def test_a_large_file_comes_in_parts_cut_between_lines(file, monkeypatch):
    monkeypatch.setattr(sources, "PART_BYTES", 64)
    lines = [f"line {i}" for i in range(100)]
    file.write_text("\n".join(lines))
    parts = list(sources.parts(file))
    assert len(parts) > 5 and max(map(len, parts)) <= 2 * 64
    assert [line for part in parts for line in part.strip().split("\n")] == lines


def test_paths_are_globs_and_commas_in_order_and_each_once(tmp_path):
    for name in ("b.txt", "a.txt", "c.md", "sub/d.txt", "odd[1].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    here = str(tmp_path)
    assert _read(f"{here}/*.txt", "file") == ["a.txt", "b.txt", "odd[1].txt"]
    assert _read(f"{here}/c.md, {here}/*.txt,{here}/a.txt,", "file") == [
        "c.md",
        "a.txt",
        "b.txt",
        "odd[1].txt",
    ]
    assert _read(f"{here}/odd[1].txt", "file") == ["odd[1].txt"]
    found = _read(f"{here}/**/*.txt", "file")
    assert sorted(found) == ["a.txt", "b.txt", "odd[1].txt", "sub/d.txt"]


@pytest.mark.parametrize("paths", ["", " , ", "{}/none.txt", "{}", "{}/empty.txt"])
def test_paths_that_name_no_text_are_said(tmp_path, paths: str):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="data.paths"):
        list(sources.read(paths.format(tmp_path), "file"))


@pytest.mark.parametrize("place", [0, 1, 15, 16, 17, 40])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf_8_are_said_with_their_place(
    file, part_bytes, place: int, mark: bytes
):
    file.write_bytes(mark + b"ok\nok\n" * 10)
    data = bytearray(file.read_bytes())
    data[len(mark) + place] = 0xFF
    file.write_bytes(data)
    with pytest.raises(UserError, match=f"byte at {len(mark) + place}\\b"):
        _read(file, "file")


def test_a_character_cut_off_at_the_end_is_said(file, part_bytes):
    file.write_bytes(b"abc\xc3")
    with pytest.raises(UserError, match="byte at 3"):
        _read(file, "file")


@pytest.mark.parametrize(
    "text, document, said",
    [
        ('{"text": "a"}\n{"text"', "text", "line 2"),
        ('{"text": "a"}\n{"body": "b", "n": 1}', "text", "body"),
        ('{"text": 5}', "text", "no text field"),
        ("[1]", "text", "no text field"),
        ('{"body": "b"}', "file", "body"),
        ('{"body": "b"}', "blank_line", "body"),
    ],
)
def test_json_lines_without_the_field_are_said(tmp_path, text, document, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        _read(path, document)
