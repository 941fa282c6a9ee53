"""Cleaning: twice is once, what is seen stays, what is not goes."""

from pydoc_data.topics import topics
import time

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data.clean import clean

awkward = st.text(
    st.sampled_from(
        "aé \t\n\r\0\x0b\x0c\x1c\x7f\x85\u0301\u200b\u2028\u2060\ufeff\u3000Å"
    )
)


@given(st.one_of(st.text(), awkward))
def test_cleaning_twice_is_cleaning_once(text: str):
    assert clean(clean(text)) == clean(text)


@given(st.one_of(st.text(), awkward))
def test_what_is_clean_has_no_space_at_a_line_end_and_one_blank_line_at_most(text: str):
    cleaned = clean(text)
    assert "\n\n\n" not in cleaned and "\r" not in cleaned
    assert all(line == line.rstrip() for line in cleaned.split("\n"))


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("", ""),
        ("  def f():\n\n\treturn 1\n", "  def f():\n\n\treturn 1\n"),
        ("a  b", "a  b"),
        ("a \t\nb  ", "a\nb"),
        ("a\n \n\t\n\nb", "a\n\nb"),
        ("a\r\nb\rc\u2028d\u2029e\x85f", "a\nb\nc\nd\ne\nf"),
        ("a\0b\x1b\u200bc\ufeff", "abc"),
        ("e\u0301", "é"),
        ("e\u200b\u0301", "é"),
        ("family: 👩\u200d👧, می\u200cخواهم", "family: 👩\u200d👧, می\u200cخواهم"),
        ("“Quoted” – İstanbul, ﬁ", "“Quoted” – İstanbul, ﬁ"),
    ],
)
def test_by_hand(text: str, cleaned: str):
    assert clean(text) == cleaned


def test_real_prose_keeps_its_lines_and_indents():
    for text in topics.values():
        lines = [line.rstrip() for line in text.split("\n") if line.strip()]
        assert [line for line in clean(text).split("\n") if line] == lines


def test_a_long_run_of_spaces_is_no_trap():
    begun = time.process_time()
    assert clean("a" + " " * 50_000 + "b\n") == "a" + " " * 50_000 + "b\n"
    assert time.process_time() - begun < 1  # second; ten if each space looks ahead


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\u2028"])
def test_the_end_of_a_page_or_line_joins_no_words(end: str):
    assert clean(f"page one{end}page two") == "page one\npage two"
