"""GRADERS: answers and the rows that they answer -> scores, by name and weight.

Before: whoever wrote answers: a task, or a round of reinforcement learning. After: its
metrics or its rewards. A grader is a function of answers and of their rows, and one of
`named()` by its name; a reward model is one too, handed to `grade_all` as `more`.

A row is a mapping of fields. What a grader reads of it:
  exact numeric f1   "references": a text that is right, or several; the best counts
  regex              "pattern" where there is one, else "references"
  length             nothing: it counts the answer's words, to weigh below 0
  ifeval             "instruction_id_list" and "kwargs": 1 if all are followed
  ifeval_share       the same: the share that is followed
  refusal            "should_refuse", true or false
  code               "prompt", "test" and "entry_point"; runs what was generated
"""

import contextlib
import difflib
import functools
import math
import signal
import threading
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from genlm.errors import UserError
from genlm.evaluate import code, ifeval, refusals
from genlm.evaluate.comparisons import COMPARISONS

SECONDS = 5.0  # that a grader may take for one answer
Fields = Mapping[str, Any]
Score = Callable[[str, Fields], float]  # of one answer and its row
Grader = Callable[[Sequence[str], Sequence[Fields]], Sequence[float]]
_CODE = "code"


class Scores(NamedTuple):
    """What answers got."""

    total: np.ndarray  # [answers] the weighted sum
    parts: dict[str, np.ndarray]  # [answers] of each grader, not weighted


def references(row: Fields) -> list[str]:
    """The texts that are right for a row.

    Raises:
      UserError: it has none.
    """
    value = row["references"] if "references" in row else []
    values = [value] if isinstance(value, str) else value
    is_list = isinstance(values, (list, tuple))
    if not values or not is_list or not all(isinstance(v, str) for v in values):
        raise UserError("no field 'references' with a right answer, or several")
    return list(values)


def _best(name: str, answer: str, row: Fields) -> float:
    """The score beside the reference that the answer is nearest to."""
    return max(COMPARISONS[name](answer, each) for each in references(row))


def _regex(answer: str, row: Fields) -> float:
    if "pattern" in row:
        return COMPARISONS["regex"](answer, str(row["pattern"]))
    return _best("regex", answer, row)


def _length(answer: str, row: Fields) -> float:
    del row
    return float(len(answer.split()))


_SCORES: dict[str, Score] = {
    **{name: functools.partial(_best, name) for name in COMPARISONS},
    "regex": _regex,
    "length": _length,
    "ifeval": ifeval.score,
    "ifeval_share": ifeval.share,
    "refusal": refusals.score,
}
NAMES = (*_SCORES, _CODE)
CHECKS: dict[str, Callable[[Fields], Any]] = {  # of rows, before anything is written
    "ifeval": ifeval.instructions,
    "ifeval_share": ifeval.instructions,
    "refusal": refusals.check_row,
    _CODE: code.check_row,
}
DETAILS: dict[str, Callable[[str, Fields], dict[str, Any]]] = {
    "ifeval": ifeval.details,
    "ifeval_share": ifeval.details,
    "refusal": refusals.details,
}


def named(run_code: bool = False) -> dict[str, Grader]:
    """The graders by their names; that which runs generated code if it may."""
    found = {n: one_by_one(n, score) for n, score in _SCORES.items()}
    return found | ({_CODE: code.scores} if run_code else {})


def one_by_one(name: str, score: Score, seconds: float = SECONDS) -> Grader:
    """A grader of single answers, each in its time.

    Raises (when it grades):
      UserError: it fails or takes longer on one: names the grader and the row.
    """

    def grade(answers: Sequence[str], rows: Sequence[Fields]) -> list[float]:
        found = []
        for i, (answer, row) in enumerate(zip(answers, rows, strict=True)):
            place = f"grader {name!r}, {_place(row, i)}"
            try:
                with _time_limit(seconds):
                    found.append(score(answer, row))
            except _Slow:
                raise UserError(f"{place}: more than {seconds:g} s on it") from None
            except Exception as error:
                raise UserError(f"{place}: {_said(error)}") from error
        return found

    return grade


def parse(texts: Sequence[str]) -> dict[str, float]:
    """Names and weights of texts such as ("exact:1.0", "length:-0.01").

    Raises:
      UserError: one is not so spelled, or there twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        name, colon, number = text.partition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (name and colon and math.isfinite(weight)):
            raise UserError(f"grader {text!r} is not spelled name:weight, as exact:1.0")
        if name in weights:
            raise UserError(f"grader {name!r} is there twice")
        weights[name] = weight
    return weights


def grade_all(
    weights: Mapping[str, float],
    answers: Sequence[str],
    rows: Sequence[Fields],
    *,
    run_code: bool = False,
    more: Mapping[str, Grader] | None = None,
) -> Scores:
    """What each answer gets from each grader, and the weighted sum.

    Args:
      run_code: let the grader `code` run what was generated (docs/graders.md).
      more: graders of the caller's own, by name, such as a reward model.

    Raises:
      UserError: there is no such grader; or one fails, hangs, or gives something that
        is no finite number (names the grader and the row).
    """
    check(weights, run_code, more or {})
    known = named(run_code) | dict(more or {})
    parts = {name: _graded(name, known[name], answers, rows) for name in weights}
    total = np.zeros(len(answers))
    for name, weight in weights.items():
        total += weight * parts[name]
    return Scores(total, parts)


def combined(
    weights: Mapping[str, float],
    *,
    run_code: bool = False,
    more: Mapping[str, Grader] | None = None,
) -> Score:
    """The reward of one answer and its row: the weighted sum of graders; see
    `grade_all`."""
    check(weights, run_code, more or {})

    def reward(answer: str, row: Fields) -> float:
        return float(
            grade_all(weights, [answer], [row], run_code=run_code, more=more).total[0]
        )

    return reward


def check(
    weights: Mapping[str, float], run_code: bool, more: Mapping[str, Grader]
) -> None:
    """Make sure that there are graders, all known, and that code may and can be run.

    Raises:
      UserError: it is not so.
    """
    if not weights:
        raise UserError("no grader is named")
    names = (*NAMES, *more)
    for name in weights:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else ", ".join(names)
            raise UserError(f"no grader {name!r}; {hint}")
    if _CODE in weights and run_code:
        code.require_jail()
    elif _CODE in weights:
        raise UserError(
            "grader 'code' runs generated programs, and has to be switched on:"
            " --run-code of genlm eval, run_code = True elsewhere; read docs/graders.md"
            " first"
        )


def _graded(
    name: str, grader: Grader, answers: Sequence[str], rows: Sequence[Fields]
) -> np.ndarray:
    """The scores of one grader, checked."""
    try:
        found = np.asarray(grader(answers, rows), np.float64)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"grader {name!r}: {_said(error)}") from error
    if found.shape != (len(answers),):
        raise UserError(
            f"grader {name!r} gives scores of shape {found.shape} for {len(answers)}"
            " answers"
        )
    for i in np.flatnonzero(~np.isfinite(found)).tolist():
        raise UserError(f"grader {name!r}, {_place(rows[i], i)}: gives {found[i]}")
    return found


def _place(row: Fields, index: int) -> str:
    """Where a row is from; its number among the answers if it does not say."""
    if "file" in row and "line" in row:
        return f"{row['file']} line {row['line']}"
    return f"row {index}"


def _said(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    text = str(error).split("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Slow(BaseException):
    """The time is over; no grader's `except Exception` takes it for its own."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _Slow in what is inside once the time is over: by a signal, which Python's
    regular expressions look out for too.

    Raises:
      UserError: this is not the main thread, the only one that signals reach.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("graders have a time limit in the main thread only")
    is_armed = True

    def ring(number: int, frame: Any) -> None:
        if is_armed:
            raise _Slow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
