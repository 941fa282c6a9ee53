"""Which rows a step reads: against a list written out."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data.plan import Plan

RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda r: (r[0], sum(r))),
    max_size=5,
).map(tuple)


@given(RANGES)
def test_what_is_left_out_is_read_by_no_step(left_out):
    plan = Plan(4, left_out=left_out)
    out = {n for first, last in left_out for n in range(first, last + 1)}
    kept = (n for n in itertools.count() if n not in out)
    assert [plan.number(step) for step in range(80)] == list(itertools.islice(kept, 80))


@given(st.integers(0, 4), st.integers(1, 7), st.integers(1, 3), RANGES)
def test_every_row_is_read_once_but_those_left_out(doublings, steps, base, left_out):
    plan = Plan(base * 2**doublings, base, steps, left_out)
    whole = Plan(base * 2**doublings, base, steps)
    read = [whole.rows(step) for step in range(90)]
    ends = [0] + [rows.stop for rows in read]
    assert [rows.start for rows in read] == ends[:-1]  # no gap, no row twice
    sizes = [len(rows) for rows in read]
    assert sizes[0] == base and sizes[-1] == whole.batch_size or doublings * steps > 89
    for step in range(40):
        assert plan.rows(step) == whole.rows(plan.number(step))


@pytest.mark.parametrize(
    "step, size", [(0, 2), (2, 2), (3, 4), (5, 4), (6, 8), (99, 8)]
)
def test_a_ramp_doubles(step: int, size: int):
    assert len(Plan(8, ramp_from=2, ramp_steps=3).rows(step)) == size
