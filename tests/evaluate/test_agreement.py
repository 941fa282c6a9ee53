"""Agreement of annotators, beside published values and ones worked by hand."""

import pytest

from genlm.data import preferences
from genlm.evaluate import agreement
from genlm.evaluate.agreement import Given
from tests.data_files import shared

# Krippendorff (2011): four observers, twelve units, nominal, with gaps; and two
# observers, ten units of 0 or 1.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
TWO = ("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")


@pytest.mark.parametrize("rows, value", [(OBSERVERS, 0.743), (TWO, 0.095)])
def test_alpha_is_the_published_one(rows: tuple[str, ...], value: float):
    observers = [row.split() for row in rows]
    units = [
        {str(i): int(value) for i, value in enumerate(unit) if value != "."}
        for unit in zip(*observers)
    ]
    assert agreement.alpha(units) == pytest.approx(value, abs=5e-4)


def test_alpha_has_no_meaning_without_difference():
    assert agreement.alpha([]) is None
    assert agreement.alpha([{"a": 1}, {"b": 0}]) is None
    assert agreement.alpha([{"a": 1, "b": 1}] * 3) is None
    assert agreement.alpha([{"a": 1, "b": 1}, {"a": 0, "b": 0}]) == 1
    assert agreement.alpha([{"a": 1, "b": 0}, {"a": 0, "b": 1}]) == pytest.approx(-0.5)


GIVEN = [
    Given("ann", "Q", (1, 2, 3)),  # pairs: <, <, <
    Given("bob", "Q", (1, 3, 2)),  # <, <, >
    Given("cal", "Q", (1, 1, 2)),  # =, <, <
    Given("ann", "R", (2, 1)),
    Given("bob", "R", (1, 2)),
    Given("ann", "alone", (2, 1)),
]


def test_pairs_ordered_alike_by_hand():
    found = agreement.alike(agreement.units(GIVEN))
    assert found == {
        ("ann", "bob"): (2, 4),
        ("ann", "cal"): (2, 2),
        ("bob", "cal"): (1, 2),
    }


def test_what_is_told():
    # eleven values of four shared pairs: eight <, two >, one =; coincidences 1 + 3 + 1
    observed, expected = 1 - (1 + 3 + 1 + 0) / 11, 1 - (8 * 7 + 2 * 1) / (11 * 10)
    assert agreement.describe(GIVEN).splitlines() == [
        "rankings: ann 3, bob 2, cal 1",
        "ann and bob: 2 of 4 pairs of answers ordered alike (50.0%), ties aside",
        "ann and cal: 2 of 2 pairs of answers ordered alike (100.0%), ties aside",
        "bob and cal: 1 of 2 pairs of answers ordered alike (50.0%), ties aside",
        "Krippendorff's alpha, a tie as a value of its own:"
        f" {1 - observed / expected:.3f} (4 pairs of answers)",
    ]
    assert agreement.describe(GIVEN[:1]) == "rankings: ann 1"


def test_the_people_of_pandalm():
    path = str(shared("preference/pandalm_human.jsonl"))
    units = agreement.units(
        Given(judged.annotator, judged.line, judged.ranks)
        for judged in preferences.read(path)
    )
    assert len(units) == 556
    assert agreement.alike(units)["annotator1", "annotator2"] == (475, 494)
    assert agreement.alpha(units) == pytest.approx(0.900, abs=5e-4)
