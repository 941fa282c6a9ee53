"""Seconds of messages on a grid of chips, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from genlm.parallel import plan
from genlm.parallel.chips import CHIPS
from genlm.parallel.hlo_counts import Collective

CHIP = CHIPS["v5e"]
SENT = 1 << 20


def _mesh(*grid: int) -> SimpleNamespace:
    """Chips in a grid, each with its place in it."""
    places = [(*place, 0) for place in np.ndindex(*grid)]
    devices = np.array([SimpleNamespace(coords=place) for place in places])
    return SimpleNamespace(devices=devices)


def _seconds(kind: str, mesh: SimpleNamespace, size: int) -> float:
    each = Collective(kind, SENT, (tuple(range(size)),), 1, "")
    return plan._seconds(each, CHIP, mesh) * CHIP.link_rate / SENT


@pytest.mark.parametrize(
    "kind, grid, rounds",
    [
        # of two chips and one link: half of an array is lacking; half of what one has
        # goes to the other
        ("all-gather", (1, 2), 1 / 2),
        ("reduce-scatter", (1, 2), 1 / 2),
        ("all-reduce", (1, 2), 1),
        ("all-to-all", (1, 2), 1 / 2),
        ("collective-permute", (1, 2), 1),
        # of a ring of 16 all but a sixteenth is lacking, and comes from both sides
        ("all-gather", (1, 16), 15 / 16 / 2),
        ("all-to-all", (1, 16), 16 / 8),
        # of a whole torus it comes from four sides
        ("all-gather", (16, 16), 255 / 256 / 4),
        ("all-reduce", (16, 16), 2 * 255 / 256 / 4),
    ],
)
def test_seconds(kind: str, grid: tuple[int, int], rounds: float):
    mesh = _mesh(*grid)
    assert _seconds(kind, mesh, len(mesh.devices)) == pytest.approx(rounds)
