"""THE BATCHES LAW: rows depend on (seed, step) alone: not on where reading began, on
the process, or on how many processes there are; an epoch holds each row once, and
validation reads each row once.
"""

import hashlib
import itertools
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from genlm.data import batches
from genlm.data.plan import Plan
from tests.command import ROOT, environment
from tests.laws.written import PAD, Written, numbered, write

BATCH_SIZE = 4
NUM_ROWS = 10  # not a multiple of the batch size


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Written:
    """NUM_ROWS rows of 8, each told by its tokens."""
    return _write(tmp_path_factory.mktemp("split"))


def _write(folder: Path) -> Written:
    split = write(folder, numbered([9] * NUM_ROWS), row_length=8, vocab_size=1000)
    assert len(split.rows) == NUM_ROWS
    return split


def _train(split: Written, seed: int = 0, **processes: int) -> batches.TrainBatches:
    return batches.TrainBatches(
        split.tokens,
        split.rows,
        Plan(BATCH_SIZE),
        seed=seed,
        pad=PAD,
        **processes,
    )


def _assert_same(a: batches.Batch, b: batches.Batch) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], strict=True)


def _row_ids(data: batches.TrainBatches, num_rows: int) -> list[int]:
    """The first `num_rows` rows that training reads, each by its first token."""
    steps = -(-num_rows // BATCH_SIZE)
    ids = np.concatenate([data[step]["tokens"][:, 0] for step in range(steps)])
    return ids[:num_rows].tolist()


@pytest.mark.parametrize("start", [0, 1, 2, 7, 123])
def test_a_step_reads_the_same_rows_wherever_reading_began(split: Written, start: int):
    data = _train(split)
    for step, batch in enumerate(itertools.islice(data.since(start), 4), start):
        _assert_same(batch, data[step])


@pytest.mark.slow
def test_a_fresh_process_reads_the_same_rows(split: Written, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.laws.test_batches", str(tmp_path)],
        cwd=ROOT,
        env=environment(PYTHONHASHSEED="5"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == _digest(split)


def _digest(split: Written) -> str:
    """One hash of what several steps of two seeds read."""
    digest = hashlib.sha256()
    for seed, step in itertools.product((0, 1), (0, 3, 50)):
        for name, array in sorted(_train(split, seed)[step].items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_the_parts_of_all_processes_are_the_batch(split: Written, num_processes: int):
    whole = _train(split)
    parts = [
        _train(split, process=process, num_processes=num_processes)
        for process in range(num_processes)
    ]
    for step in (0, 2, 9):
        read = [part[step] for part in parts]
        _assert_same(
            {name: np.concatenate([part[name] for part in read]) for name in read[0]},
            whole[step],
        )


def test_another_seed_reads_in_another_order(split: Written):
    orders = [tuple(_row_ids(_train(split, seed), NUM_ROWS)) for seed in range(4)]
    assert len(set(orders)) == 4


def test_an_epoch_holds_each_row_once_in_an_order_of_its_own(split: Written):
    read = _row_ids(_train(split), 3 * NUM_ROWS)
    epochs = [read[i : i + NUM_ROWS] for i in range(0, len(read), NUM_ROWS)]
    every_row = list(range(1, 1 + 9 * NUM_ROWS, 9))
    assert all(sorted(epoch) == every_row for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_validation_reads_every_row_once_in_order(split: Written, num_processes: int):
    parts = [
        list(
            batches.valid_batches(
                split.tokens,
                split.rows,
                batch_size=BATCH_SIZE,
                pad=PAD,
                process=process,
                num_processes=num_processes,
            )
        )
        for process in range(num_processes)
    ]
    steps = [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]}
        for step in zip(*parts, strict=True)
    ]
    tokens = np.concatenate([step["tokens"] for step in steps])
    weights = np.concatenate([step["weights"] for step in steps])
    assert tokens.shape == (12, 8)  # filled up with rows of PAD
    assert tokens[:NUM_ROWS, 0].tolist() == list(range(1, 1 + 9 * NUM_ROWS, 9))
    assert np.all(weights[:NUM_ROWS] == 1)
    assert np.all(tokens[NUM_ROWS:] == PAD) and np.all(weights[NUM_ROWS:] == 0)


if __name__ == "__main__":
    print(_digest(_write(Path(sys.argv[1]))))
