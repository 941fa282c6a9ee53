"""Charts: drawn through their points, and through means where there are many."""

import re

import numpy as np
import pytest

from genlm.runs import plots

STEPS = 20


def train_rows(steps: int = STEPS) -> list[dict]:
    rows: list[dict] = []
    for step in range(1, steps + 1):
        row = {"step": step, "loss": 1 + 5 / step, "bits_per_byte": 1.5 + 5 / step}
        row |= {"gradient_norm": 2 / step, "learning_rate": 1e-3 / step}
        row |= {"trained_share": 0.75, "seconds": step / 4, "memory_mb": 300.0 + step}
        row |= {"tokens_per_second": 1000.0 + step}
        rows.append(row)
    return rows + [{"step": steps, "valid_loss": 1.3579, "valid_bits_per_byte": 1.2468}]


def _drawn(svg: str, colour: str) -> np.ndarray:
    """[n, 2] points of the line in a colour, in the drawing's units."""
    line = rf'<path d="([^"]*)"[^>]*stroke: var\(--{colour}\); stroke-width: 1.4'
    (path,) = re.findall(line, svg)
    numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", path)]
    return np.asarray(numbers).reshape(-1, 2)


def test_curve_is_drawn_through_its_points():
    (chart,) = plots.charts(train_rows(), {"loss": "Loss"}, None)
    drawn, given = _drawn(chart.svg, "train"), plots.points(train_rows(), "loss")
    for dim, sign in ((0, 1), (1, -1)):
        assert np.corrcoef(drawn[:, dim], given[:, dim])[0, 1] == pytest.approx(sign)


def test_long_curve_is_drawn_as_means():
    rows = train_rows(5000)
    (chart,) = plots.charts(rows, {"loss": "Loss"}, None)
    assert chart.is_grouped and chart.is_cut and len(chart.svg) < 60_000
    assert chart.train == rows[4999]["loss"] and chart.valid == 1.3579


def test_values_that_are_not_finite_or_unknown_do_not_stop_a_page():
    rows = train_rows() + [{"step": 21, "loss": float("nan"), "reward": 0.5}]
    rows += [{"step": 22, "learning_rate": None, "valid_reward": 0.25}]
    assert plots.other_titles(rows) == {"reward": "Reward"}
    reward, loss = plots.charts(rows, {"reward": "R", "loss": "L", "no": "N"}, None)
    assert (reward.train, reward.valid, loss.train) == (0.5, 0.25, 1.25)


@pytest.mark.parametrize(
    "value, words",
    [(999.6, "1k"), (1807508, "1.81M"), (1.2e9, "1.2B"), (0.25, "0.25"), (12, "12")],
)
def test_short(value, words):
    assert plots.short(value) == words
