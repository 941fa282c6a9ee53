"""WHAT A REWARD MODEL IS WORTH: its scores of held-out answers, beside what people
preferred.

Before: stages.reward, when it has ended. After: the report, and comparisons with other
models, row by row. Writes into the run
  results.json       how often the better answer has the higher score, how well the
                     score's difference says how sure one may be, and how far the score
                     goes with length, each with its interval
  predictions.jsonl  a row a comparison: ranks, scores, and the tokens of each answer
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genlm.evaluate import calibration, statistics
from genlm.evaluate.statistics import Estimate
from genlm.interop import run as interop
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.posttrain import answers, reward
from genlm.runs import directory
from genlm.stages import preferring, prepare_preferences
from genlm.stages.prepare import Prepared

RESULTS, PREDICTIONS = "results.json", "predictions.jsonl"
MADE = (RESULTS, PREDICTIONS)


def finish(workdir: Path, prepared: Prepared, batch_size: int) -> None:
    """Write what the run's last checkpoint, opened as anyone opens it, says."""
    beside = prepare_preferences.extras(prepared.folder, "valid")
    ranks_RK = beside["ranks"]
    scores_RK, tokens_RK = _scores(workdir, prepared, beside, batch_size)
    rows = [
        {"ranks": ranks, "scores": scores, "tokens": tokens}
        for ranks, scores, tokens in zip(
            ranks_RK.tolist(), scores_RK.tolist(), tokens_RK.astype(int).tolist()
        )
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    directory.write_atomic(workdir / PREDICTIONS, "".join(lines))
    results = measured(ranks_RK, scores_RK, tokens_RK)
    directory.write_json(workdir / RESULTS, results)
    _show(results)


def _scores(
    workdir: Path, prepared: Prepared, beside: preferring.Beside, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """scores [rows, K] of the held-out comparisons, and the tokens of each answer."""
    opened, _, head = interop.open_head(workdir)
    params, model = {"model": opened.params, "head": head}, opened.config.without_chance
    count = beside["ranks"].shape[1]

    @jax.jit
    def look(params: Any, batch: Any) -> Any:
        tokens_BK = answers.sums(batch["weights"], batch["segments"], count)
        return reward.scores(params, batch, model, count), tokens_BK

    mesh = meshes.make(meshes.MeshConfig())
    with sharding.laid_out(mesh):
        ways = sharding.ways(mesh, "batch")
        whole = -(-size // ways) * ways
        batches = preferring.in_order(prepared, "valid", beside, whole, mesh)
        found = [hosts.fetch(look(params, batch)) for batch in batches]
    number = len(beside["ranks"])
    scores, tokens = (np.concatenate(each)[:number] for each in zip(*found))
    return scores, tokens


def measured(
    ranks_RK: np.ndarray, scores_RK: np.ndarray, tokens_RK: np.ndarray
) -> dict[str, Any]:
    """Every figure with its interval; drawn anew are comparisons, not pairs."""
    pairs = [_pairs(*row) for row in zip(ranks_RK, scores_RK, tokens_RK)]
    right = np.asarray([np.mean([ahead > 0 for ahead, _ in p]) for p in pairs if p])
    longer = np.asarray([np.mean([more > 0 for _, more in p]) for p in pairs if p])
    flat = [pair for p in pairs for pair in p]
    ahead = np.asarray([each for each, _ in flat])
    sure = 1 / (1 + np.exp(-np.abs(ahead)))
    return {
        "comparisons": len(right),
        "accuracy": statistics.estimate(right)._asdict(),
        "longer_is_better": statistics.estimate(longer)._asdict(),
        "ece": calibration.error(sure, (ahead > 0).astype(float)),
        "length_correlation": correlation(scores_RK, tokens_RK, ranks_RK > 0),
    }


def _pairs(
    ranks: np.ndarray, scores: np.ndarray, tokens: np.ndarray
) -> list[tuple[float, float]]:
    """(how far the better's score is ahead, how many tokens more it has) of a row."""
    there = np.flatnonzero(ranks > 0)
    return [
        (float(scores[a] - scores[b]), float(tokens[a] - tokens[b]))
        for a in there
        for b in there
        if ranks[a] < ranks[b]
    ]


def correlation(
    scores_RK: np.ndarray, tokens_RK: np.ndarray, is_there_RK: np.ndarray
) -> float:
    """Pearson's, between scores and tokens of answers to the same prompt: each less its
    row's mean, so that what a prompt asks for does not count."""
    counts = np.maximum(is_there_RK.sum(1, keepdims=True), 1)

    def apart(values: np.ndarray) -> np.ndarray:
        means = (values * is_there_RK).sum(1, keepdims=True) / counts
        return (values - means)[is_there_RK]

    scores, tokens = apart(scores_RK), apart(tokens_RK)
    size = np.sqrt(np.sum(scores**2) * np.sum(tokens**2))
    return float(np.sum(scores * tokens) / size) if size else 0.0


def _show(results: dict[str, Any]) -> None:
    accuracy, longer = (
        Estimate(**results[name]) for name in ("accuracy", "longer_is_better")
    )
    print(
        f"{results['comparisons']:,} held-out comparisons: the better answer has the"
        f" higher score in {accuracy}; it is the longer one in {longer}\n"
        f"  calibration error {results['ece']:.3f}; correlation of score and length"
        f" {results['length_correlation']:+.2f}",
        flush=True,
    )
