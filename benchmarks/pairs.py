"""PAIRS: two sides measured in turn, each in a process of its own.

A worker stays alive, so that compiling and warming up are done once. It is told 'go'
over its stdin, works for about a second, and answers over its stdout. The sides take
turns (A B A B ...), so that whatever else the machine does falls on both.
"""

from importlib import util
import json
import os
from statistics import median
import subprocess
import sys
import time
from typing import Callable, Mapping, NamedTuple, Sequence, SupportsFloat, TypeVar

from benchmarks.table import Row, say
from genlm.errors import UserError

T = TypeVar("T")
NUM_PAIRS = 7
STEPS_BEFORE = 5  # steps on one batch, after which its loss must be lower
TURN = 1.0  # seconds of steps

# One training step; returns the loss before it, which float() waits for.
Step = Callable[[], SupportsFloat]


class Turn(NamedTuple):
    """What a side answers to 'go'."""

    seconds: float  # a step
    flops: float  # floating point operations a second, in a large matrix product


class Worker:
    """A side: `python -m MODULE SETTING ...`, which calls `serve`.

    Like the genlm command, it has malloc on huge pages, which helps torch too.

    Attributes:
      losses: those of the first step, and of the same batch STEPS_BEFORE steps later.
      setting: which of its settings was the fastest.
    """

    def __init__(self, module: str, *settings: str):
        self._name = " ".join((module, *settings))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ},
        )
        self.losses, self.setting = self._answer()
        first, last = self.losses
        say(f"{self._name}: {self.setting}; at first {first:.3f}, later {last:.3f}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self) -> Turn:
        """One turn of the worker."""
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        return Turn(*self._answer())

    def _answer(self) -> list:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"{self._name} ended with code {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its stdin, and so ends it


def serve(
    makers: Mapping[str, Callable[[], Step]], product: Callable[[], float]
) -> None:
    """The worker's side: take the fastest of `makers`, then measure at each 'go'.

    Args:
      makers: {name of a setting: a function that makes its step}.
      product: operations a second of a large matrix product.
    """
    answers = os.fdopen(os.dup(1), "w")  # whatever else prints, prints to stderr
    os.dup2(2, 1)
    setting = _fastest(makers)
    step = makers[setting]()
    first = float(step())
    seconds = _seconds(step, STEPS_BEFORE - 1)
    num_steps = max(1, round(TURN / seconds))
    print(json.dumps([(first, float(step())), setting]), file=answers, flush=True)
    for _ in sys.stdin:
        turn = Turn(_seconds(step, num_steps), product())
        print(json.dumps(turn), file=answers, flush=True)


def _fastest(makers: Mapping[str, Callable[[], Step]]) -> str:
    """The name of the step that is quickest once it is compiled: the best of three."""

    def seconds(name: str) -> float:
        step = makers[name]()
        float(step())
        return min(_seconds(step, 1) for _ in range(3))

    return min(makers, key=seconds) if len(makers) > 1 else next(iter(makers))


def _seconds(step: Step, times: int) -> float:
    """Mean seconds of a call; like the train loop, it waits for a step's loss once the
    next step is under way."""
    begun = time.perf_counter()
    before: SupportsFloat = 0.0
    for _ in range(times):
        before, last = step(), before
        float(last)
    float(before)
    return (time.perf_counter() - begun) / times


def product_flops(multiply: Callable[[], object], size: int) -> float:
    """Operations a second of `multiply`, a product of two [size, size] matrices."""

    def timed() -> float:
        multiply()
        return 0.0

    timed()
    return 2 * size**3 / median(_seconds(timed, 1) for _ in range(3))


def take_turns(
    sides: Sequence[Callable[[], T]], num_pairs: int = NUM_PAIRS
) -> list[list[T]]:
    """answers[side][pair] of the sides called in turn."""
    rounds = [[side() for side in sides] for _ in range(num_pairs)]
    return [list(answers) for answers in zip(*rounds)]


def row(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float] | None = None,
    *,
    less_is_better: bool = False,
    utilisation: float | None = None,
) -> Row:
    """Medians of both sides, and the median and spread of the ratios of the pairs."""
    if peer is None:
        return Row(
            name, median(ours), unit, utilisation=utilisation, spread=_spread(ours)
        )
    sides = zip(peer, ours) if less_is_better else zip(ours, peer)
    ratios = [better / worse for better, worse in sides]
    return Row(
        name,
        median(ours),
        unit,
        median(peer),
        median(ratios),
        utilisation,
        _spread(ratios),
    )


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / median(values)


def peer(
    asked: str | None, needs: Sequence[str] = ("torch", "transformers")
) -> str | None:
    """'torch' if it is to stand beside genlm, else None.

    Args:
      needs: the packages of the peer.

    Raises:
      UserError: it was asked for and is not installed.
    """
    missing = [n for n in needs if util.find_spec(n) is None]
    if asked == "none" or not missing:
        return None if asked == "none" else "torch"
    line = f"no {' and '.join(missing)} here: pip install 'genlm[bench]'"
    if asked:
        raise UserError(line)
    say(f"genlm alone, {line}")
    return None
