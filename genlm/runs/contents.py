"""CONTENTS: what a run directory, or a life of several, holds by now.

Before: every file that the stages wrote. After: report. A run in progress, a stage not
begun and a damaged checkpoint have contents too: fewer.
"""

import dataclasses
from pathlib import Path
from typing import Any, Callable

from genlm.errors import UserError
from genlm.runs import checkpoint, directory, lineage, metrics

Count = Callable[[dict[str, Any]], int]  # of something, from what model.json says


@dataclasses.dataclass(frozen=True)
class Stage:
    """What the folder of a stage holds by now; empty where there is no such file."""

    name: str
    folder: Path
    config: dict[str, Any]
    lineage: dict[str, Any]
    summary: dict[str, Any]  # of prepared data
    model: dict[str, Any]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    events: list[dict[str, Any]]
    health: list[dict[str, Any]]
    results: dict[str, Any]
    rows: list[dict[str, Any]]  # of tasks

    @classmethod
    def read(cls, name: str, folder: Path) -> "Stage":
        return cls(
            name,
            folder,
            config=_json(folder / "config.json"),
            lineage=lineage.read(folder),
            summary=_json(folder / "tokens" / "summary.json"),
            model=_json(folder / "model.json"),
            metrics=metrics.read(folder / "metrics.jsonl"),
            samples=metrics.read(folder / "samples.jsonl"),
            events=metrics.read(folder / "events.jsonl"),
            health=metrics.read(folder / "health.jsonl"),
            results=_json(folder / "results.json"),
            rows=metrics.read(folder / "rows.jsonl"),
        )

    @property
    def is_empty(self) -> bool:
        return not (self.summary or self.model or self.metrics or self.results)

    def of_model(self, count: Count) -> int:
        """`count` of its model.

        Raises:
          UserError: its model.json describes none (names it).
        """
        try:
            return count(self.model)
        except UserError as error:
            raise UserError(f"{self.folder / 'model.json'} {error}") from error

    @property
    def step(self) -> int:
        return self.metrics[-1]["step"] if self.metrics else 0

    @property
    def status(self) -> str:
        """How far it is, in words."""
        if self.lineage and self.lineage["outputs"]:
            return "finished"
        if self.metrics:
            steps = self.setting("num_steps")
            return f"at step {self.step:,}" + (f" of {steps:,}" if steps else "")
        return "begun" if self.folder.is_dir() else "not begun"

    def setting(self, name: str) -> Any:
        """A value of the config's section train, or None."""
        section = self.config["train"] if "train" in self.config else {}
        return section[name] if name in section else None

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """(path, sha256) of each."""
        inputs = self.lineage["inputs"] if self.lineage else {}
        return [(name, entry["sha256"]) for name, entry in inputs.items()]

    @property
    def bits(self) -> dict[str, float]:
        """Held-out bits a byte, of the model and of baselines."""
        return self.results["bits_per_byte"] if "bits_per_byte" in self.results else {}

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What it does on each task."""
        return self.results["tasks"] if "tasks" in self.results else {}

    @property
    def measured(self) -> str:
        """Its name, and that of the run that it measured."""
        source = Path(self.config["source"]).name if "source" in self.config else ""
        return f"{source} ({self.name})" if source else self.name

    def is_made_from(self, other: "Stage") -> bool:
        """Whether the outputs of `other` are an input of this stage."""
        if not self.lineage or not other.lineage:
            return False
        digest = lineage.digest(other.lineage["outputs"])
        return digest in (e["sha256"] for e in self.lineage["inputs"].values())

    @property
    def happened(self) -> list[dict[str, Any]]:
        """The journal, where it says more than that the run began."""
        return self.events if len(self.events) > 1 else []

    def checkpoints(self) -> list[tuple[int, str]]:
        """(step, validation loss or why there is none) of each."""
        found = []
        for step in checkpoint.steps(self.folder):
            try:
                loss = checkpoint.manifest(self.folder, step)["content"]["valid_loss"]
            except (UserError, KeyError, TypeError):  # damaged, or deleted just now
                found.append((step, "manifest not readable"))
            else:
                found.append((step, "not measured" if loss is None else f"{loss:.4f}"))
        return found


def read(folder: Path) -> list[Stage]:
    """The stages in `folder`, in order; prepared data that a lone stage was made from,
    first.

    Raises:
      UserError: there is nothing to report.
    """
    if not folder.is_dir():
        raise UserError(f"no directory {folder}")
    if (folder / "sweep.json").exists():
        points = _json(folder / "sweep.json")["points"]
        runs = " ".join(str(folder / point["name"]) for point in points[:8])
        raise UserError(f"{folder} is a sweep: genlm report {runs} --compare")
    config = _json(folder / "config.json")
    if "stages" in config:
        stages = [s for n in config["stages"] for s in _with_data(n, folder / n)]
    else:
        name = config["stage"] if "stage" in config else folder.resolve().name
        stages = _with_data(name, folder)
        if len(stages) == 1:
            stages = _data_elsewhere(stages[0]) + stages
    if all(stage.is_empty for stage in stages):
        raise UserError(
            f"nothing to report in {folder}: no prepared data, model, metrics or"
            " results; give the folder of a stage's run, or of a life"
        )
    return stages


def _json(path: Path) -> dict[str, Any]:
    return directory.read_json(path) if path.exists() else {}


def _with_data(name: str, folder: Path) -> list[Stage]:
    """The stage, after the data in it if it prepared its own."""
    data = Stage.read(f"{name}: data", folder / "data")
    return ([data] if data.summary else []) + [Stage.read(name, folder)]


def _data_elsewhere(stage: Stage) -> list[Stage]:
    """Prepared data outside of a stage's folder, if it is still as it was read."""
    if not stage.lineage:
        return []
    names = [Path(name) for name in stage.lineage["inputs"]]
    beside = stage.folder.resolve().parent  # where it is if a whole life was moved
    for path in [*names, *(beside / name.name for name in names)]:
        if (path / "tokens" / "summary.json").exists():
            data = Stage.read(path.name, path)
            if stage.is_made_from(data):
                return [data]
    return []
