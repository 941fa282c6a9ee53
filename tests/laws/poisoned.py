"""`genlm` in a process whose data and disk go wrong, at the batches named in the first
argument: {"noise": [first, last], "nan": [...], "hang": n, "full": n, "seconds": s}.
Run by test_poisoned."""

import json
import resource
import sys
import threading

import numpy as np

from genlm.cli.__main__ import main
from genlm.data.batches import TrainBatches

_read = TrainBatches.__getitem__


def poison(plan: dict) -> None:
    """From now on batches are read as `plan` says, by their number in the order."""
    once = {"hang", "full"}

    def read(self: TrainBatches, step: int) -> dict[str, np.ndarray]:
        batch, number = _read(self, step), self._plan.number(step)
        if plan["noise"][0] <= number <= plan["noise"][1]:
            noise = np.random.default_rng(number).integers(
                0, 250, batch["tokens"].shape
            )
            batch = {**batch, "targets": noise.astype(np.int32)}
        if number in plan["nan"]:
            batch = {**batch, "weights": batch["weights"] * np.float32(np.nan)}
        if number == plan["hang"] and "hang" in once:
            once.remove("hang")
            threading.Event().wait()
        if number == plan["full"] and "full" in once:
            once.remove("full")
            fill_disk(plan["seconds"])
        return batch

    TrainBatches.__getitem__ = read  # type: ignore[method-assign]


def fill_disk(seconds: float, size: int = 0) -> None:
    """For `seconds` no file of this process grows beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    as_before = resource.RLIMIT_FSIZE, (soft, hard)
    threading.Timer(seconds, resource.setrlimit, as_before).start()


if __name__ == "__main__":
    poison(json.loads(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
