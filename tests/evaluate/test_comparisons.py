"""Grades worked out by hand."""

from decimal import Decimal

import pytest

from genlm.errors import UserError
from genlm.evaluate import comparisons

NUMBERS = {
    "the total is 1,234.50 dollars": "1234.5",
    "5-3": "3",
    "5 - 3 = 2": "2",
    "-$5.": "-5",
    "x = \u22127": "-7",
    "She sold 48 + 24 clips.\n#### 72": "72",
    "#### 12, and 13 more": "12",
    "1,2,3": "3",  # no thousands
    "costs $.50": "0.50",
    "version 3.14.15": "3.14",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_the_number_of_a_text(text: str):
    assert comparisons.number(text) == Decimal(NUMBERS[text])


@pytest.mark.parametrize("text", ["", "none", "####", "no. a."])
def test_a_text_without_a_number(text: str):
    assert comparisons.number(text) is None
    assert comparisons.numeric(text, "3") == comparisons.numeric(text, text) == 0


def test_near_is_less_the_further_a_number_is_off():
    scores = [comparisons.near(text, "#### 40") for text in ("40", "30.", "0", "90")]
    assert scores == [1.0, 0.75, 0.0, 0.0]
    assert comparisons.near("-1", "-2") == 0.5 and comparisons.near("0", "0") == 1.0
    assert comparisons.near("no number", "3") == comparisons.near("3", "none") == 0.0


def test_numeric_compares_values_and_not_digits():
    assert comparisons.numeric("That makes 3.50.", "#### 3.5") == 1
    assert comparisons.numeric("-734", " 734") == 0
    assert comparisons.numeric("1,598", "1598") == 1


def test_exact_passes_over_case_spaces_and_a_full_stop():
    assert comparisons.exact(" The  Sun.\n", "the sun") == 1
    assert comparisons.exact("-3", "3") == 0
    assert comparisons.exact("the suns", "the sun") == 0


def test_f1_of_words():
    # 2 of 3 words are shared with one of 2: precision 2/3, recall 1
    assert comparisons.f1("a big red dog!", "the red dog") == pytest.approx(0.8)
    assert comparisons.f1("cat", "dog") == 0
    assert comparisons.f1("dog dog", "dog") == pytest.approx(2 / 3)  # each counts once
    assert comparisons.f1("the", "a") == 1 and comparisons.f1("", "dog") == 0


def test_regex_finds_or_says_what_is_wrong():
    assert comparisons.regex("The answer is B.", r"answer is \(?B\b") == 1
    assert comparisons.regex("The answer is C.", r"answer is \(?B\b") == 0
    with pytest.raises(UserError, match="no regular expression"):
        comparisons.regex("x", "(")
