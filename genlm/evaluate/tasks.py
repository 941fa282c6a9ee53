"""TASKS: a small JSON file says what a model is asked, of which rows, and how it is
scored.

Before: JSON lines of anybody's. After: choices, last words, generations, texts. The
files of `descriptions/` come with the project; a path names one's own. A template is
text with fields of a row in braces, and nothing else. The kinds:
  choices        the likeliest of several continuations of `context`; or, with
                 `contexts`, what makes `continuation` the likeliest
  minimal_pairs  `good` is likelier than `bad`
  last_word      `continuation` is the likeliest after `context`
  generation     what is written after `context`, graded beside `answer`
  conversation   the last answer of a conversation, in the model's own chat format
  checked        what is written after `context`, graded by what the row says of it
  text           bits a byte
"""

import dataclasses
import difflib
import json
from pathlib import Path
import re
from typing import Any, Iterator, NamedTuple

from genlm.data import chat, conversations, synthetic
from genlm.errors import UserError
from genlm.evaluate import graders
from genlm.evaluate.comparisons import COMPARISONS

FOLDER = Path(__file__).parent / "descriptions"
EMBEDDED = {"embedded:safety": FOLDER / "safety.jsonl"}
NORMALISED = ("characters", "bytes", "tokens")
ASKED = ("text", "turn")
_OPTIONAL = ("shots", "shots_data", "between", "group")
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # needed, and possible
    "choices": (
        ("gold",),
        ("context", "choices", "contexts", "continuation", "normalise", *_OPTIONAL),
    ),
    "minimal_pairs": (("good", "bad"), ("normalise", "between", "group")),
    "last_word": (("context", "continuation"), _OPTIONAL),
    "generation": (
        ("context", "answer", "grader", "max_tokens"),
        ("stop", *_OPTIONAL),
    ),
    "conversation": (("grader", "max_tokens"), ("form", "held_out", "group")),
    "checked": (("context", "grader", "max_tokens"), ("asked", "stop", "group")),
    "text": ((), ("text", "group")),
}
_EVERY = ("kind", "data", "licence", "note")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Task:
    """What a description says; the keys of other kinds are as they are here."""

    name: str
    kind: str
    data: tuple[str, ...]  # files of JSON lines, within the folder of the data
    licence: str
    note: str
    context: str = ""
    between: str = " "  # a context and what follows it
    choices: str | tuple[str, ...] = ()  # a field with a list, or templates
    contexts: str = ""  # a field with a list
    continuation: str = ""
    gold: str | int = 0  # a field with a number from 0 or the right text, or a number
    normalise: str = "characters"  # what a choice's log-probability is divided by
    good: str = ""
    bad: str = ""
    answer: str = ""
    grader: str = ""
    max_tokens: int = 0
    stop: tuple[str, ...] = ()  # an answer ends before the first of these
    asked: str = "text"  # or "turn": a user's, where the model has a chat format
    text: str = ""  # the field of JSON lines; a plain text needs none
    form: str = "auto"  # of conversations: see genlm.data.conversations
    held_out: float = 0.0  # the share that training leaves out; 0: all are asked
    group: str = ""  # a field by which the rows are told apart
    shots: int = 0  # so many solved rows of `shots_data` stand before each
    shots_data: str = ""
    run_code: bool = False  # no description says so: whoever asks for the task does

    def __post_init__(self) -> None:
        checks = {
            f"normalise is one of {NORMALISED}": self.normalise in NORMALISED,
            "choices and a context, or contexts and a continuation": (
                self.kind != "choices"
                or (bool(self.contexts) == bool(self.continuation))
                and (bool(self.contexts) != bool(self.choices))
            ),
            f"grader is one of {self.graders}": not self.graders
            or self.grader in self.graders,
            f"asked is one of {ASKED}": self.asked in ASKED,
            "max_tokens is positive": not self.is_written or self.max_tokens > 0,
            "held_out is from 0 to 1": 0 <= self.held_out <= 1,
            "shots come with shots_data": self.shots >= 0
            and (self.shots > 0) == bool(self.shots_data),
            "data names a file": bool(self.data),
        }
        for rule, kept in checks.items():
            if not kept:
                raise UserError(f"task {self.name}, not so: {rule}")

    @property
    def is_written(self) -> bool:
        """Whether a model writes an answer."""
        return bool(self.graders)

    @property
    def graders(self) -> tuple[str, ...]:
        """Those that can grade what is written; () where nothing is."""
        if self.kind == "checked":
            return tuple(graders.CHECKS)
        is_beside_references = self.kind in ("generation", "conversation")
        return tuple(COMPARISONS) if is_beside_references else ()

    @property
    def fields_of_context(self) -> list[str]:
        """The fields of a row that its context is made of."""
        return _FIELD.findall(self.context)


class Row(NamedTuple):
    """A line of a task's data."""

    path: str
    number: int  # of the line, from 1
    fields: dict[str, Any]

    def field(self, name: str) -> Any:
        """The value of a field.

        Raises:
          UserError: the row has none of that name (names the line).
        """
        if name not in self.fields:
            near = difflib.get_close_matches(name, self.fields, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"it has {[*self.fields]}"
            raise self.wrong(f"no field {name!r}; {hint}")
        return self.fields[name]

    def text(self, name: str) -> str:
        """The value of a field that is a text or a number."""
        value = self.field(name)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.wrong(f"field {name!r} is {value!r:.40}, not a text")
        return str(value)

    def texts(self, name: str) -> list[str]:
        """The value of a field that is a list of texts, or one."""
        value = self.field(name)
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(v, str) for v in values):
            raise self.wrong(f"field {name!r} is {value!r:.40}, not a list of texts")
        return values

    def fill(self, template: str) -> str:
        """`template` with the row's fields in it."""
        return _FIELD.sub(lambda match: self.text(match[1]), template)

    @property
    def place(self) -> dict[str, Any]:
        """Where it stands, as graders name it."""
        return {"file": self.path, "line": self.number}

    def record(self, found: dict[str, Any]) -> dict[str, Any]:
        """What was found of this row, with its place."""
        return {"file": self.path, "row": self.number, **found}

    def wrong(self, what: str) -> UserError:
        return UserError(f"{self.path} line {self.number}: {what}")


def data_path(name: str, root: Path) -> Path:
    """Where a file of a task's data is: of the project, or in the folder `root`."""
    return EMBEDDED[name] if name in EMBEDDED else root / name


def names() -> list[str]:
    """The tasks that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(reference: str) -> Task:
    """The task of that name, or the one that a file describes.

    Raises:
      UserError: there is none, or the file does not describe one.
    """
    path = Path(reference)
    if path.suffix != ".json":
        path = FOLDER / f"{reference}.json"
        if reference not in names():
            near = difflib.get_close_matches(reference, names(), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else ", ".join(names())
            raise UserError(f"no task {reference!r}; {hint}")
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read task {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"task {path} is not JSON: {error}") from error
    return _task(path.stem, content)


def _task(name: str, content: Any) -> Task:
    """The task of a description's content."""
    if not isinstance(content, dict) or content.get("kind") not in _KEYS:
        raise UserError(f"task {name}: kind is not one of {', '.join(_KEYS)}")
    needed, possible = _KEYS[content["kind"]]
    allowed = {*_EVERY, *needed, *possible}
    for key in content:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else ", ".join(sorted(allowed))
            raise UserError(f"task {name}: no key {key!r} in this kind; {hint}")
    if missing := [key for key in (*_EVERY, *needed) if key not in content]:
        raise UserError(f"task {name} lacks {missing[0]!r}")
    files = content["data"]
    values = content | {"data": [files] if isinstance(files, str) else files}
    for field in dataclasses.fields(Task):
        if field.name in values:
            values[field.name] = _typed(name, field, values[field.name])
    return Task(name, **values)


def _typed(name: str, field: dataclasses.Field, value: Any) -> Any:
    """`value` of a key; a list of texts becomes a tuple.

    Raises:
      UserError: it is of another type.
    """
    is_list = isinstance(value, list) and all(isinstance(v, str) for v in value)
    kinds = {
        "tuple[str, ...]": is_list,
        "str": isinstance(value, str),
        "int": type(value) is int,
        "float": type(value) is float,
        "str | tuple[str, ...]": isinstance(value, str) or is_list,
        "str | int": isinstance(value, str) or type(value) is int,
    }
    if not kinds[_spelled(field.type)]:
        raise UserError(
            f"task {name}: {field.name} is {value!r:.40}, expected"
            f" {_spelled(field.type)}"
        )
    return tuple(value) if is_list else value


def _spelled(kind: Any) -> str:
    return (
        kind.__name__
        if isinstance(kind, type) and kind in (str, int, float)
        else str(kind)
    )


def read(task: Task, root: Path, limit: int = 0) -> list[Row]:
    """The rows of a task, or the first `limit` of them (0: all).

    Raises:
      UserError: a file is not there, or a line is no JSON object (names it).
    """
    rows = []
    for name in task.data:
        is_talk = task.kind == "conversation"
        for row in (
            _talks(task, root, name) if is_talk else _lines(task, data_path(name, root))
        ):
            rows.append(row)
            if limit and len(rows) == limit:
                return rows
    if not rows:
        raise UserError(f"task {task.name}: {', '.join(task.data)} has no rows")
    return rows


def _talks(task: Task, root: Path, name: str) -> Iterator[Row]:
    """Conversations that end with an answer, of those that are held out."""
    paths = name if name == conversations.EMBEDDED else str(root / name)
    for each in conversations.read(paths, task.form, strict=True):
        is_asked = not task.held_out or synthetic.is_held_out(each, task.held_out)
        if is_asked and each["messages"][-1]["role"] in chat.ASSISTANT:
            yield Row(Path(each["file"]).name, each["line"], each)


def solved_rows(task: Task, root: Path) -> list[Row]:
    """The rows that stand before each as examples."""
    if not task.shots:
        return []
    source = dataclasses.replace(task, data=(task.shots_data,))
    return read(source, root, task.shots)


def _lines(task: Task, path: Path) -> Iterator[Row]:
    try:
        text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UserError(
            f"task {task.name}: cannot read {path}: {error.strerror}; --data names the"
            " folder of the data"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: bad byte at {error.start}") from error
    if path.suffix not in (".jsonl", ".json"):
        yield Row(path.name, 1, {"text": text})
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _row(path, number, line)


def _row(path: Path, number: int, line: str) -> Row:
    try:
        fields = json.loads(line)
        line.encode()
    except ValueError as error:
        raise UserError(f"{path} line {number} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} line {number} is no JSON object")
    return Row(path.name, number, fields)
