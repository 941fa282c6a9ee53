"""THE PLAN: which rows of the endless shuffled order each step trains on.

Before: the step. After: batches. A pure function, also where the batch grows in the
first steps and where batches are left out. Batch n of the undisturbed order is always
the same rows; leaving some out moves later steps on by so many.
"""

import dataclasses
from typing import Iterator


@dataclasses.dataclass(frozen=True)
class Plan:
    """`left_out` holds (first, last) numbers of batches that no step trains on."""

    batch_size: int  # rows
    ramp_from: int = 0  # rows of the first batches; 0: batch_size from the start
    ramp_steps: int = 0  # batches of a size, until it doubles
    left_out: tuple[tuple[int, int], ...] = ()

    def number(self, step: int) -> int:
        """The number of the batch that step `step` (0, 1, ...) trains on."""
        number = step
        for first, last in _merged(self.left_out):
            if number >= first:
                number += last - first + 1
        return number

    def rows(self, step: int) -> range:
        """Which rows of the order step `step` trains on."""
        number = self.number(step)
        start = 0
        for size, batches in self._stages():
            if batches is None or number < batches:
                start += number * size
                return range(start, start + size)
            start += batches * size
            number -= batches
        raise AssertionError("the last stage has no end")

    def part(self, step: int, process: int, num_processes: int) -> range:
        """The rows of a step that a process reads, the i-th the i-th n-th."""
        whole = self.rows(step)
        share = len(whole) // num_processes
        first = whole.start + process * share
        return range(first, first + share)

    def _stages(self) -> Iterator[tuple[int, int | None]]:
        """(rows of a batch, how many batches of that size; None: for ever)."""
        size = self.ramp_from or self.batch_size
        while size < self.batch_size:
            yield size, self.ramp_steps
            size *= 2
        yield self.batch_size, None


def _merged(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """The ranges in order, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
