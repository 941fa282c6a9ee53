"""Graders by name and weight: sums, and what is wrong said in one line."""

import threading
import time

import numpy as np
import pytest

from genlm.errors import UserError
from genlm.evaluate import graders

ROWS = [{"references": ["four", "4"]}, {"references": "five"}]


def test_the_nearest_of_several_references_counts():
    found = graders.grade_all({"exact": 1.0}, ["4", "6"], ROWS)
    assert found.total.tolist() == [1, 0] and [*found.parts] == ["exact"]
    rows = [{"references": ["cat", "dog"]}]
    score = graders.grade_all({"f1": 1.0}, ["red dog"], rows).total[0]
    assert score == pytest.approx(2 / 3)


def test_a_weighted_sum_by_hand():
    weights = graders.parse(("exact:1.0", "length:-0.01"))
    assert weights == {"exact": 1.0, "length": -0.01}
    answers = ["four", "it is five"]
    found = graders.grade_all(weights, answers, ROWS)
    assert found.total == pytest.approx([1 - 0.01, -0.03])
    assert found.parts["length"].tolist() == [1, 3]
    reward = graders.combined(weights)
    alone = [reward(answer, row) for answer, row in zip(answers, ROWS)]
    assert alone == found.total.tolist()


def test_a_pattern_stands_beside_references():
    row = {"references": "B", "pattern": r"<answer>.+</answer>"}
    reward = graders.combined(graders.parse(("exact:1", "regex:0.5")))
    assert reward("<answer>B</answer>", row) == 0.5
    assert reward("B", row) == 1
    assert graders.combined({"regex": 1.0})("abc", {"references": ["x", "b"]}) == 1


def test_a_grader_of_the_callers_own():
    """As a reward model would be one: all answers at once."""

    def reward_model(answers, rows):
        return np.asarray([len(a) + len(r["prompt"]) for a, r in zip(answers, rows)])

    rows = [{"prompt": "ab", "references": "x"}] * 2
    weights = {"exact": 1.0, "model": 0.5}
    found = graders.grade_all(weights, ["x", "yy"], rows, more={"model": reward_model})
    assert found.total.tolist() == [1 + 1.5, 2]


@pytest.mark.parametrize(
    "texts, words",
    [
        (("exact",), "grader 'exact' is not spelled name:weight"),
        ((":1",), "grader ':1' is not spelled"),
        (("exact:much",), "grader 'exact:much' is not spelled"),
        (("exact:nan",), "grader 'exact:nan' is not spelled"),
        (("exact:1", "exact:2"), "grader 'exact' is there twice"),
    ],
)
def test_weights_that_are_none(texts: tuple[str, ...], words: str):
    with pytest.raises(UserError, match=words):
        graders.parse(texts)


def test_graders_that_are_not_known_or_not_allowed():
    with pytest.raises(UserError, match="no grader 'exakt'; did you mean 'exact'?"):
        graders.combined({"exakt": 1.0})
    with pytest.raises(UserError, match="no grader is named"):
        graders.combined({})
    with pytest.raises(UserError, match="'code' runs generated programs.*switched on"):
        graders.combined({"code": 1.0})
    assert "code" not in graders.named() and "code" in graders.named(run_code=True)


def test_a_grader_that_fails_is_named_with_its_row():
    rows = [ROWS[0], {"file": "sums.jsonl", "line": 7, "references": 5}]
    with pytest.raises(UserError) as error:
        graders.grade_all({"exact": 1.0}, ["4", "5"], rows)
    assert str(error.value).startswith("grader 'exact', sums.jsonl line 7: no field")
    with pytest.raises(UserError, match="grader 'regex', row 1: '\\(' is no regular"):
        graders.grade_all({"regex": 1}, ["a", "a"], [ROWS[0], {"references": "("}])

    def broken(answer, row):
        return 1 / 0

    own = {"own": graders.one_by_one("own", broken)}
    with pytest.raises(UserError, match="grader 'own', row 0: ZeroDivisionError: div"):
        graders.grade_all({"own": 1.0}, ["4"], ROWS[:1], more=own)
    with pytest.raises(UserError, match="grader 'own': ZeroDivisionError: div"):
        graders.grade_all({"own": 1.0}, ["4"], ROWS[:1], more={"own": broken})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_named(value: float):
    own = {"own": lambda answers, rows: [0.0, value]}
    with pytest.raises(UserError, match=f"grader 'own', row 1: gives {value}"):
        graders.grade_all({"own": 1.0}, ["4", "5"], ROWS, more=own)
    own = {"own": lambda answers, rows: [0.0]}
    with pytest.raises(UserError, match=r"'own' gives scores of shape \(1,\) for 2"):
        graders.grade_all({"own": 1.0}, ["4", "5"], ROWS, more=own)


def test_a_grader_that_hangs_is_stopped_and_named():
    """A pattern that backtracks for hours, and a loop that catches what it can."""
    slow = graders.one_by_one("regex", graders._regex, seconds=0.2)
    rows = [{"references": "x"}, {"references": r"(a+)+$"}]
    begun = time.monotonic()
    with pytest.raises(UserError, match="grader 'regex', row 1: more th"):
        slow(["x", "a" * 60 + "b"], rows)

    def stubborn(answer, row):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                pass

    with pytest.raises(UserError, match="grader 'own', row 0: more than 0.2 s on it"):
        graders.one_by_one("own", stubborn, seconds=0.2)(["x"], rows[:1])
    assert time.monotonic() - begun < 5
    assert graders.combined({"exact": 1.0})("x", rows[0]) == 1  # and all is well again


def test_no_time_limit_outside_of_the_main_thread_is_said():
    found = []

    def grade() -> None:
        try:
            graders.combined({"exact": 1.0})("x", {"references": "x"})
        except UserError as error:
            found.append(str(error))

    thread = threading.Thread(target=grade)
    thread.start()
    thread.join()
    assert found == [
        "grader 'exact', row 0: graders have a time limit in the main thread only"
    ]


def test_as_many_rows_as_answers():
    with pytest.raises(UserError, match="grader 'exact'"):
        graders.grade_all({"exact": 1.0}, ["4"], ROWS)
