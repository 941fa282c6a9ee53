"""PREFERENCE FORMS: the shapes that preferences come in -> what was asked, the answers,
and how somebody ranked them.

Before: a row of JSON. After: preferences. Texts stay as they are, to the space; an
answer may be empty, since people are shown such answers too.
"""

import itertools
import math
import re
from typing import Any, NamedTuple

from genlm.data.forms import Messages, check_turns, instruction, turns
from genlm.data.shapes import Form, Shapes, Unfit, kind, require_whole, text

_SPOKEN = re.compile(r"\n\n(Human|Assistant):")
_ROLE_OF = {"Human": "user", "Assistant": "assistant"}
_ANNOTATOR = re.compile(r"annotator\d+")
_RANKS_OF = {0: (1, 1), 1: (1, 2), 2: (2, 1)}  # of PandaLM's verdicts
_GOOD, _BAD = 1, 2  # the ranks of what was marked, with nothing to compare it with


class Judged(NamedTuple):
    """One person's judgement of the answers to one conversation.

    messages end with a user's turn. ranks: 1 is the best, equal ones are a tie; of a
    single answer 1 is good and 2 is bad. scores: higher is better. An annotator who is
    not known is ''.
    """

    messages: Messages
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    annotator: str = ""
    file: str = ""
    line: int = 0


def _check(judged: Judged) -> None:
    check_turns(judged.messages)
    if not judged.messages or judged.messages[-1]["role"] != "user":
        raise Unfit("what is answered does not end with a user's turn")
    for number, answer in enumerate(judged.answers, 1):
        require_whole(answer, f"answer {number}")
    require_whole(judged.annotator, "its annotator")


def _dialogues(row: dict) -> list[Judged]:
    """Two dialogues that differ in their last answer alone, as in HH-RLHF."""
    chosen, rejected = _dialogue(row, "chosen"), _dialogue(row, "rejected")
    return _pair(chosen, rejected)


def _dialogue(row: dict, name: str) -> Messages:
    """The turns of a text in which each begins with a blank line and its speaker. The
    space after the colon belongs to the mark."""
    before, *spoken = _SPOKEN.split(text(row, name))
    if before or not spoken:
        raise Unfit(f"its {name} does not begin with a blank line and 'Human:'")
    return [
        {"role": _ROLE_OF[who], "content": said.removeprefix(" ")}
        for who, said in zip(spoken[::2], spoken[1::2])
    ]


def _pair(chosen: Messages, rejected: Messages) -> list[Judged]:
    """What both begin with is asked; the last turns are the answers."""
    *asked, better = chosen
    *other, worse = rejected
    if wrong := {better["role"], worse["role"]} - {"assistant"}:
        raise Unfit(f"one ends with the {wrong.pop()}'s turn, not the assistant's")
    if asked != other:
        both = zip(asked, other)
        same = len(list(itertools.takewhile(lambda turn: turn[0] == turn[1], both)))
        raise Unfit(
            f"chosen and rejected part at turn {same + 1}, before their last answers"
        )
    return [Judged(asked, (better["content"], worse["content"]), (1, 2))]


def _chosen(row: dict) -> list[Judged]:
    """Two answers to a prompt, as texts or as lists of turns."""
    if isinstance(row["chosen"], str):
        answers = text(row, "chosen"), text(row, "rejected")
        return [Judged(_asked(row), answers, (1, 2))]
    sides = [_whole(row, turns(row[name])) for name in ("chosen", "rejected")]
    return _pair(*sides)


def _whole(row: dict, said: Messages) -> Messages:
    """Turns with the prompt before them, where they do not hold it themselves."""
    if "prompt" not in row:
        return said
    asked, own = _asked(row), said[:-1]
    if not own:
        return asked + said
    if not any(own[n : n + len(asked)] == asked for n in range(len(own))):
        raise Unfit("its prompt is not among the turns of its answers")
    return said


def _asked(row: dict) -> Messages:
    """What is answered: a 'prompt' that is a text, a text of marked turns up to
    'Assistant:', or a list of turns; or such a list as 'messages'."""
    name = "prompt" if "prompt" in row or "messages" not in row else "messages"
    if name == "messages" or isinstance(row.get(name), list):
        return turns(row[name])
    prompt = text(row, name)
    if not prompt.startswith("\n\nHuman:"):
        return [{"role": "user", "content": prompt}]
    *asked, last = _dialogue(row, name)
    begins = last["role"] == "assistant" and not last["content"].strip()
    return asked if begins else [*asked, last]


def _verdicts(row: dict) -> list[Judged]:
    """Two answers that several people compared, as in PandaLM: 0 is a tie, 1 or 2 the
    better one. Among its answers is JSON's true, where the model wrote «True»."""
    asked: Messages = [{"role": "user", "content": instruction(row, row)}]
    answers = _spelled(row, "response1"), _spelled(row, "response2")
    judged = []
    for name in filter(_ANNOTATOR.fullmatch, row):
        if not _is_int(row[name]) or row[name] not in _RANKS_OF:
            raise Unfit(f"its {name} is {str(row[name])[:30]!r}, not 0, 1 or 2")
        judged.append(Judged(asked, answers, _RANKS_OF[row[name]], None, name))
    return judged


def _spelled(row: dict, name: str) -> str:
    return str(row[name]) if isinstance(row.get(name), bool) else text(row, name)


def _solutions(row: dict) -> list[Judged]:
    """Solutions that were marked right or wrong, as in GSM8K's of models."""
    solutions = _some(row, "solutions")
    answers, ranks = [], []
    for number, solution in enumerate(solutions, 1):
        if not isinstance(solution, dict):
            raise Unfit(f"solution {number} is {kind(solution)} and no object")
        answers.append(text(solution, "solution", f"solution {number}'s "))
        ranks.append(_mark(solution, "is_correct", f"solution {number}'s "))
    asked: Messages = [{"role": "user", "content": text(row, "question")}]
    return [Judged(asked, tuple(answers), tuple(ranks))]


def _ranking(row: dict) -> list[Judged]:
    """Answers and their ranks, as `genlm collect` writes them."""
    answers, ranks = _answers(row), _some(row, "ranks")
    if len(ranks) != len(answers):
        raise Unfit(f"it has {len(answers)} answers and {len(ranks)} ranks")
    if wrong := [rank for rank in ranks if not _is_int(rank) or rank < 1]:
        raise Unfit(f"one of its ranks is {str(wrong[0])[:30]!r}, not 1, 2, ...")
    if len(ranks) == 1 and ranks[0] > _BAD:
        raise Unfit("the rank of its one answer is not 1 (good) or 2 (bad)")
    return [Judged(_asked(row), answers, tuple(ranks), None, _annotator(row))]


def _scored(row: dict) -> list[Judged]:
    answers, given = _answers(row), _some(row, "scores")
    if len(given) != len(answers) or len(answers) < 2:
        raise Unfit(
            f"it has {len(answers)} answers and {len(given)} scores; two of"
            " each at least"
        )
    scores = tuple(_score(score) for score in given)
    places = {score: n for n, score in enumerate(sorted({*scores}, reverse=True), 1)}
    ranks = tuple(places[score] for score in scores)
    return [Judged(_asked(row), answers, ranks, scores, _annotator(row))]


def _score(score: Any) -> float:
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise Unfit(f"one of its scores is {kind(score)} and no number")
    try:
        number = float(score)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Unfit(f"one of its scores is {str(score)[:30]}, not finite")
    return number


def _marked(row: dict) -> list[Judged]:
    """One answer, good or bad, as for KTO."""
    name = next(name for name in ("completion", "answer") if name in row)
    answer = row[name]
    if isinstance(answer, list):
        said = turns(answer)
        if len(said) != 1 or said[0]["role"] != "assistant":
            raise Unfit(f"its {name} is not one turn of the assistant")
        answer = said[0]["content"]
    else:
        answer = text(row, name)
    ranks = (_mark(row, "label", "its "),)
    return [Judged(_asked(row), (answer,), ranks, None, _annotator(row))]


def _mark(fields: dict, name: str, whose: str) -> int:
    if not isinstance(fields.get(name), bool):
        raise Unfit(f"{whose}{name} is {kind(fields.get(name))}, not true or false")
    return _GOOD if fields[name] else _BAD


def _answers(row: dict) -> tuple[str, ...]:
    answers = _some(row, "answers")
    if wrong := [each for each in answers if not isinstance(each, str)]:
        raise Unfit(f"one of its answers is {kind(wrong[0])} and no text")
    return tuple(answers)


def _annotator(row: dict) -> str:
    return text(row, "annotator") if row.get("annotator") is not None else ""


def _some(row: dict, name: str) -> list:
    if not isinstance(row[name], list) or not row[name]:
        raise Unfit(f"its {name} are {kind(row[name])} and no list of some")
    return row[name]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _has(*names: str, asked: bool = True) -> Any:
    """Whether a row has these fields and, if it must, what is answered."""

    def has(row: dict) -> bool:
        is_asked = "prompt" in row or "messages" in row
        return set(names) <= set(row) and (is_asked or not asked)

    return has


PREFERENCES = Shapes(
    "preference",
    {
        "dialogues": Form(
            "chosen + rejected (texts of turns '\\n\\nHuman: ...\\n\\nAssistant: ...')",
            lambda row: _has("chosen", "rejected", asked=False)(row)
            and "prompt" not in row
            and isinstance(row["chosen"], str),
            _dialogues,
        ),
        "chosen": Form(
            "prompt + chosen + rejected (texts, or lists of turns)",
            _has("chosen", "rejected", asked=False),
            _chosen,
        ),
        "verdicts": Form(
            "instruction, input, response1, response2, annotator1, ... (0, 1 or 2)",
            lambda row: _has("instruction", "response1", "response2", asked=False)(row)
            and any(map(_ANNOTATOR.fullmatch, row)),
            _verdicts,
        ),
        "solutions": Form(
            "question + solutions [{solution, is_correct}]",
            _has("question", "solutions", asked=False),
            _solutions,
        ),
        "rankings": Form(
            "prompt (or messages) + answers + ranks", _has("answers", "ranks"), _ranking
        ),
        "scores": Form(
            "prompt (or messages) + answers + scores",
            _has("answers", "scores"),
            _scored,
        ),
        "marks": Form(
            "prompt (or messages) + completion (or answer) + label (true or false)",
            lambda row: _has("label")(row) and ("completion" in row or "answer" in row),
            _marked,
        ),
    },
    _check,
)
