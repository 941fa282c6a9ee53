"""SCALING LAWS: losses of finished runs -> the loss of one that was not run.

L(N, D) = E + A/N^alpha + B/D^beta, the third approach of arXiv:2203.15556: N counts
parameters, D trained tokens, and the Huber loss of log-residuals is brought down from a
grid of starts. (There by L-BFGS; least squares with the same loss and the derivatives
at hand ends in the same place much sooner.) Before: the stage `fit`, which reads runs.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from scipy import optimize

MIN_RUNS = 6  # one more than the law has constants
# Residuals count squared up to here, and by their size beyond. With the paper's 1e-3
# nearly all of a small ladder's would count by their size.
_DELTA = 0.01
_EXPONENTS = (0.01, 3.0)
_MOST = 100  # steps: losses that follow no law would take thousands


@dataclasses.dataclass(frozen=True)
class Runs:
    """Finished runs, an entry each: parameters, trained tokens, held-out loss."""

    parameters: np.ndarray
    tokens: np.ndarray
    losses: np.ndarray

    @property
    def compute(self) -> np.ndarray:
        """FLOP of training, 6 for each parameter and token (arXiv:2001.08361)."""
        return 6.0 * self.parameters * self.tokens


class Law(NamedTuple):
    """The constants of a law; called, the loss of so many parameters and tokens."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def __call__(self, parameters, tokens):
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta


def fit(runs: Runs) -> Law:
    """The law nearest to `runs`."""
    scaled = _Scaled.of(runs)
    return scaled.law(scaled.best(_starts(runs.losses)))


def residuals(law: Law, runs: Runs) -> np.ndarray:
    """log(measured / fitted) of each run."""
    return np.log(runs.losses) - np.log(law(runs.parameters, runs.tokens))


def bootstrap(
    law: Law, runs: Runs, parameters: float, tokens: float, draws: int, seed: int
) -> tuple[list[Law], np.ndarray]:
    """Laws fitted to `draws` other outcomes of the same runs, and what a run of
    `parameters` and `tokens` would have measured in each.

    An outcome is the law with the residuals dealt out anew. To draw whole runs instead
    would leave out all runs of a size now and then, and no law could be told. Residuals
    are small by as much as constants were fitted to them, so they are widened; a
    measured run has one of its own.
    """
    random = np.random.default_rng(seed)
    n = len(runs.losses)
    spread = residuals(law, runs) * np.sqrt(n / max(n - len(law), 1))
    fitted = law(runs.parameters, runs.tokens)
    laws, outcomes = [], np.empty(draws)
    for i in range(draws):
        again = dataclasses.replace(
            runs, losses=fitted * np.exp(random.choice(spread, n))
        )
        scaled = _Scaled.of(again)
        laws.append(scaled.law(scaled.best([scaled.constants(law)])))
        outcomes[i] = laws[-1](parameters, tokens) * np.exp(random.choice(spread))
    return laws, outcomes


def compute_law(runs: Runs, compute: float) -> float:
    """A baseline: the loss at `compute` FLOP by a power law through the runs that no
    run of less compute beats."""
    order = np.argsort(runs.compute)
    best = np.minimum.accumulate(runs.losses[order])
    front = order[runs.losses[order] <= best]
    x, y = np.log(runs.compute[front]), np.log(runs.losses[front])
    slope = np.polyfit(x, y, 1)[0] if len(front) > 1 else 0.0
    return float(np.exp(y.mean() + slope * (np.log(compute) - x.mean())))


def _starts(losses: np.ndarray) -> list[np.ndarray]:
    """Shares of the smallest loss for E, the rest for both falls, and exponents."""
    return [
        np.asarray([np.log(share * losses.min()), half, alpha, half, beta])
        for share, alpha, beta in itertools.product(
            (0.1, 0.5, 0.9), (0.1, 0.3, 0.8), (0.1, 0.3, 0.8)
        )
        for half in (np.log(max(np.median(losses) - share * losses.min(), 1e-3) / 2),)
    ]


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """Runs about their mean size, where the constants hardly depend on each other:
    log E, log A/N0^alpha, alpha, log B/D0^beta, beta."""

    n: np.ndarray  # log parameters, about their mean
    d: np.ndarray  # log tokens, about theirs
    y: np.ndarray  # log losses
    n0: float
    d0: float

    @classmethod
    def of(cls, runs: Runs) -> "_Scaled":
        n, d = np.log(runs.parameters), np.log(runs.tokens)
        return cls(n - n.mean(), d - d.mean(), np.log(runs.losses), n.mean(), d.mean())

    def best(self, starts: list[np.ndarray]) -> np.ndarray:
        """The constants of the smallest loss that any of `starts` leads to."""
        ends = np.asarray([(-20.0, self.y.min())] + [(-20.0, 20.0), _EXPONENTS] * 2)
        found = [
            optimize.least_squares(
                self._off,
                np.clip(start, ends[:, 0] + 1e-6, ends[:, 1] - 1e-6),
                jac=self._slopes,
                bounds=tuple(ends.T),
                loss="huber",
                f_scale=_DELTA,
                max_nfev=_MOST,
            )
            for start in starts
        ]
        return min(found, key=lambda result: result.cost).x

    def _terms(self, c: np.ndarray) -> np.ndarray:
        """log of each of the three terms of the law [3, runs]."""
        return np.stack(
            [np.full_like(self.n, c[0]), c[1] - c[2] * self.n, c[3] - c[4] * self.d]
        )

    def _off(self, c: np.ndarray) -> np.ndarray:
        """log(law / measured) of each run."""
        return np.logaddexp.reduce(self._terms(c)) - self.y

    def _slopes(self, c: np.ndarray) -> np.ndarray:
        """Derivatives of `_off` [runs, constants]."""
        terms = self._terms(c)
        e, a, b = np.exp(terms - np.logaddexp.reduce(terms))
        return np.stack([e, a, -a * self.n, b, -b * self.d], axis=-1)

    def law(self, c: np.ndarray) -> Law:
        e, a, alpha, b, beta = (float(x) for x in c)
        return Law(
            np.exp(e),
            np.exp(a + alpha * self.n0),
            alpha,
            np.exp(b + beta * self.d0),
            beta,
        )

    def constants(self, law: Law) -> np.ndarray:
        """What `law` came from."""
        a = np.log(law.A) - law.alpha * self.n0
        b = np.log(law.B) - law.beta * self.d0
        return np.asarray([np.log(law.E), a, law.alpha, b, law.beta])
