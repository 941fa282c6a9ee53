"""MEASURING: a run on some tasks.

Before: a run's folder, the names of tasks, the folder of their data. After: the verb
eval and the stage evaluate, which write results.json and rows.jsonl.
"""

import contextlib
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from genlm.data import conversations, embedded
from genlm.errors import UserError, require_text
from genlm.evaluate import contamination, graders, harness, tasks
from genlm.evaluate.harness import Question
from genlm.evaluate.likelihood import Candidate
from genlm.interop.run import Opened
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import directory, lineage


@dataclasses.dataclass(frozen=True)
class TasksConfig:
    """Tasks that come with the project or that files describe; the folder of their
    data; how many rows of each are taken, 0 for all; whether a task may run the code
    that a model generates (docs/graders.md)."""

    names: tuple[str, ...]
    data: str
    limit: int
    run_code: bool = False

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UserError(f"the limit of rows, {self.limit}, is below 0")
        for text in (*self.names, self.data):
            require_text(text, "tasks")
        found = [task.name for task in self.tasks]
        for name in found:
            if found.count(name) > 1:
                raise UserError(f"task {name} is asked for twice")

    @property
    def tasks(self) -> list[tasks.Task]:
        found = [tasks.load(name) for name in self.names]
        return [dataclasses.replace(t, run_code=self.run_code) for t in found]

    def questions(self) -> list[Question]:
        """The tasks with their rows.

        Raises:
          UserError: a file is not there, or a line is not as its task says (names it).
        """
        root = Path(self.data)
        for task in self.tasks:
            if task.is_written:
                graders.check({task.grader: 1.0}, task.run_code, {})
        return [
            Question(
                task, tasks.read(task, root, self.limit), tasks.solved_rows(task, root)
            )
            for task in self.tasks
        ]

    def inputs(self) -> dict[str, Any]:
        """The hashes of the data, for the lineage."""
        files = [name for task in self.tasks for name in (*task.data, task.shots_data)]
        root = Path(self.data)
        paths = {tasks.data_path(name, root): None for name in files if name}
        if conversations.EMBEDDED in files:
            del paths[root / conversations.EMBEDDED]
            paths |= dict.fromkeys(embedded.files())
        return lineage.of_inputs(paths, {})


class Measured(NamedTuple):
    """What results.json says of each task, and the rows of rows.jsonl."""

    tasks: dict[str, dict[str, Any]]
    rows: list[dict[str, Any]]


@contextlib.contextmanager
def candidate(opened: Opened) -> Iterator[Candidate]:
    """A model to measure, on all devices."""
    mesh = meshes.make(meshes.MeshConfig())
    with sharding.laid_out(mesh):
        yield Candidate(
            opened.params,
            opened.config,
            opened.tokenizer,
            functools.partial(sharding.global_batch, mesh=mesh),
            sharding.ways(mesh, "batch"),
        )


def measure(opened: Opened, source: Path, questions: Sequence[Question]) -> Measured:
    """What a model, that of the run `source`, does on each task."""
    if not questions:
        return Measured({}, [])
    with candidate(opened) as model:
        found = [harness.measure(model, question) for question in questions]
    texts = [question.texts() for question in questions]
    seen = contamination.check(
        [text for each in texts for text in each], contamination.trained_on(source)
    )
    results, rows, first = {}, [], 0
    for question, result in zip(questions, found):
        end = first + len(question.rows)
        results[question.task.name] = {
            **result.as_json(),
            "contamination": seen.of(slice(first, end)) if seen else "not checked",
        }
        first = end
        rows += [{"task": question.task.name, **record} for record in result.records]
    return Measured(results, rows)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    directory.write_atomic(path, "".join(lines))


def recipes(runs: Sequence[Path]) -> list[list[int]]:
    """The places of runs that differ by their seed alone, for each two or more; where
    their data was prepared does not count."""
    groups: dict[str, dict[int, int]] = {}
    for place, run in enumerate(runs):
        if not (run / "config.json").exists():
            continue
        config = directory.read_json(run / "config.json")
        if "seed" not in config:
            continue
        if "data" in config:
            config["data"] |= {"prepared": ""}
        seeds = groups.setdefault(lineage.digest(config | {"seed": 0}), {})
        seeds.setdefault(config["seed"], place)
    return [list(seeds.values()) for seeds in groups.values() if len(seeds) > 1]
