"""SWEEP: one pretrain recipe at several settings and seeds, on one prepared text.

Before: the verb `sweep`. After: a run directory a point, each as `genlm run` would have
made it, and sweep.json with every loss. A point that fails leaves the others alone; the
same sweep again goes on where it stopped.
"""

import dataclasses
import itertools
from pathlib import Path
import re
import statistics
from typing import Any, Iterator

from ml_collections import ConfigDict

from genlm import config as configs
from genlm import stages
from genlm.errors import UserError, memory_line
from genlm.runs import directory, metrics
from genlm.stages import prepare, pretrain, together

_SHARED = ("data", "tokenizer", "stage", "seed")  # not to be varied: one text for all


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep, in the folder of its name."""

    setting: str
    seed: int
    config: ConfigDict

    @property
    def name(self) -> str:
        return re.sub(r"[^\w.,=+-]", "_", f"{self.setting},seed={self.seed}")


def points(
    config: ConfigDict, varied: list[str], seeds: tuple[int, ...], workdir: Path
) -> list[Point]:
    """Every combination of the `varied` values ('section.key=a,b') and the seeds, on
    the text that is prepared in workdir/data, or was before.

    Raises:
      UserError: the config is not one pretrain stage, or a value does not fit.
    """
    if "stages" in config or config.get("stage") != "pretrain":
        raise UserError("a sweep is of a config of one pretrain stage")
    configs.require(config, pretrain.READS)
    axes = [list(_values(config, text)) for text in varied]
    made = []
    for choice in itertools.product(*axes):
        for seed in seeds:
            point = config.copy_and_resolve_references()
            for override in (*choice, f"seed={seed}"):
                configs.apply(point, f"--config.{override}")
            _check(point)  # what is wrong shows now, not after the first hours
            if not point.data.prepared:
                point.data.prepared = str(workdir / "data")
            setting = ",".join(map(_short, choice)) or "as given"
            made.append(Point(setting, seed, point))
    names = [point.name for point in made]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(f"two points of the sweep would be called {twice[0]!r}")
    return made


def _check(point: ConfigDict) -> None:
    """Make sure that a point can be run, and compared with others."""
    stages.checked(point)
    if not point.eval.eval_every:
        raise UserError("eval.eval_every is 0, and a sweep compares held-out losses")
    if point.checkpoint.copy_to:
        raise UserError("checkpoint.copy_to is one run's; a sweep has several")


def _values(config: ConfigDict, text: str) -> Iterator[str]:
    """'section.key=a', 'section.key=b' from 'section.key=a,b'."""
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise UserError(f"--vary {text}: write section.key=a,b")
    if key.split(".")[0] in _SHARED:
        raise UserError(f"--vary {key}: all points share {', '.join(_SHARED[:2])}")
    if isinstance(configs.flatten(config).get(key), tuple):
        raise UserError(f"--vary {key}: its own values have commas; sweep it by hand")
    for value in values.split(","):
        yield f"{key}={value}"


def _short(override: str) -> str:
    """'learning_rate=0.1' of 'optimizer.learning_rate=0.1'."""
    key, _, value = override.partition("=")
    return f"{key.split('.')[-1]}={value}"


def run(
    config: ConfigDict,
    workdir: Path,
    varied: list[str],
    seeds: tuple[int, ...],
    is_together: bool,
) -> bool:
    """Run every point, and write workdir/sweep.json; whether all of them came through.

    Args:
      is_together: the seeds of a setting are trained as one program, if that fits.
    """
    if (workdir / "config.json").exists():
        raise UserError(f"{workdir} holds a run; take another --workdir")
    todo = points(config, varied, seeds, workdir)
    with directory.held(workdir):
        if not config.data.prepared:
            prepare.run(config, workdir / "data")
        rows = []
        for setting, group in itertools.groupby(todo, lambda p: p.setting):
            several = list(group)
            failures: dict[Path, str] = {}
            if is_together and len(several) > 1:
                failures = _train_together(several, workdir)
            rows += [_row(point, workdir, failures) for point in several]
        settings = _settings(rows)
        table = {"points": rows, "settings": settings}
        directory.write_json(workdir / "sweep.json", table)
    _show(settings, rows)
    return not any(row["error"] for row in rows)


def _train_together(several: list[Point], workdir: Path) -> dict[Path, str]:
    """Failures by folder; none where it cannot be, as each is trained by itself."""
    try:
        return together.run({workdir / p.name: p.config for p in several})
    except UserError as error:
        why = str(error)
    except (MemoryError, RuntimeError) as error:
        if not (why := memory_line(error)):
            raise
    print(f"one after the other: {why}", flush=True)
    return {}


def _row(point: Point, workdir: Path, failures: dict[Path, str]) -> dict[str, Any]:
    """What the run of `point` came to; it is trained if it is not finished."""
    folder = workdir / point.name
    row = {"name": point.name, "setting": point.setting, "seed": point.seed}
    try:
        if folder in failures:
            raise UserError(failures[folder])
        print(f"[{point.name}]", flush=True)
        stages.run(point.config, folder)
    except (UserError, MemoryError, RuntimeError) as error:
        why = str(error) if isinstance(error, UserError) else memory_line(error)
        if not why:
            raise
        print(f"{point.name} failed: {why}", flush=True)
        return {**row, "valid_loss": None, "error": why}
    losses = [
        r["valid_loss"]
        for r in metrics.read(folder / "metrics.jsonl")
        if "valid_loss" in r
    ]
    return {**row, "valid_loss": losses[-1], "error": ""}


def _settings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds of each setting, the best first."""
    found = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        own = [row for row in rows if row["setting"] == setting]
        losses = [row["valid_loss"] for row in own if not row["error"]]
        found.append(
            {
                "setting": setting,
                "mean": statistics.mean(losses) if losses else None,
                "deviation": statistics.stdev(losses) if len(losses) > 1 else None,
                "seeds": len(losses),
                "failed": len(own) - len(losses),
            }
        )
    return sorted(found, key=lambda s: (s["mean"] is None, s["mean"]))


def _show(settings: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    width = max(len(s["setting"]) for s in settings)
    print(f"{'setting':{width}}  held-out loss, nats a token: mean, deviation, seeds")
    for s in settings:
        mean = "failed" if s["mean"] is None else f"{s['mean']:.4f}"
        deviation = "" if s["deviation"] is None else f"± {s['deviation']:.4f}"
        failed = f", {s['failed']} failed" if s["failed"] else ""
        print(f"{s['setting']:{width}}  {mean} {deviation:8}  {s['seeds']}{failed}")
    for row in rows:
        if row["error"]:
            print(f"{row['name']} failed: {row['error']}")
    print(flush=True)
