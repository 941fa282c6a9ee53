"""HELD-OUT TEXTS OF A CLASSIFIER: what it says of them, and how good that is.

Before: stages.classify, between two steps and at the end. After: rows of metrics.jsonl,
and of a finished run
  results.json       every score with its interval, and the confusion matrix
  predictions.jsonl  a row a text: its hash, label and probabilities, to be compared
                     with another model's, text by text
  confusion.svg      which classes it takes for which
"""

import json
import math
from pathlib import Path
from typing import Any, Callable

import jax
import numpy as np

from genlm.data import batches
from genlm.evaluate import classification, classification_plot
from genlm.evaluate.statistics import Estimate
from genlm.interop import classifier
from genlm.interop.classifier import Classifier
from genlm.model import heads
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.parallel import hosts, sharding
from genlm.runs import directory
from genlm.runs.progress import Bar
from genlm.stages.prepare import Prepared
from genlm.stages.prepare_labelled import KEYS

RESULTS, PREDICTIONS, PLOT = "results.json", "predictions.jsonl", "confusion.svg"
MADE = (RESULTS, PREDICTIONS, PLOT, classifier.NAME)


def make_validation(
    prepared: Prepared,
    model: TransformerConfig,
    head: HeadConfig,
    weights_C: np.ndarray,
    batch_size: int,
    mesh: Any,
    max_rows: int = 0,
) -> Callable[[Any], dict[str, float]]:
    """A function of params {"model", "head"} that scores the held-out texts: the loss
    that is trained with, accuracy, macro_f1, roc_auc and ece.

    Args:
      weights_C: of classes, in the loss.
      max_rows: of packed rows, as far apart as can be; 0: all.
    """
    tokens, rows = prepared.split("valid")
    if 0 < max_rows < len(rows):
        rows = rows.take(np.linspace(0, len(rows) - 1, max_rows).astype(int))
    process, num_processes = sharding.rows_of_process(mesh)
    still = model.without_chance

    @jax.jit
    def look(params: Any, batch: Any) -> jax.Array:
        return jax.nn.log_softmax(heads.outputs(params, batch, still, head))

    def validate(params: Any) -> dict[str, float]:
        logprobs, labels = [], []
        for batch in batches.valid_batches(
            tokens,
            rows,
            batch_size=batch_size,
            pad=prepared.tokenizer.special.pad,
            process=process,
            num_processes=num_processes,
        ):
            whole = sharding.global_batch(batch, mesh)
            found_BTC, targets_BT, weights_BT = hosts.fetch(
                (look(params, whole), whole["targets"], whole["weights"])
            )
            is_stop_BT = weights_BT > 0
            logprobs.append(found_BTC[is_stop_BT])
            labels.append(targets_BT[is_stop_BT])
        return scores(np.concatenate(logprobs), np.concatenate(labels), weights_C)

    return validate


def scores(
    logprobs: np.ndarray, labels: np.ndarray, weights_C: np.ndarray
) -> dict[str, float]:
    """A row of metrics, of log-probabilities [texts, classes]."""
    own = logprobs[np.arange(len(labels)), labels]
    probabilities = _probabilities(logprobs)
    guesses = probabilities.argmax(1)
    row = {
        "valid_loss": float(np.mean(-own * weights_C[labels], dtype=np.float64)),
        "accuracy": classification.accuracy(labels, guesses),
        "macro_f1": classification.macro_f1(labels, guesses),
        "roc_auc": classification.roc_auc(probabilities, labels),
        "ece": classification.calibration_error(probabilities, labels),
    }
    return {name: value for name, value in row.items() if not math.isnan(value)}


def _probabilities(logprobs: np.ndarray) -> np.ndarray:
    return np.exp(np.asarray(logprobs, np.float64))


def finish(workdir: Path, prepared: Prepared) -> None:
    """Write what the run's last checkpoint, opened as anyone opens it, says."""
    opened = classifier.open_classifier(workdir)
    tokens, _ = prepared.split("valid")
    documents = [
        np.asarray(tokens.shards[shard][start : start + length], np.int64)
        for shard, start, length in tokens.documents
    ]
    labels = np.asarray([ids[-1] for ids in documents])
    logprobs = np.empty((len(labels), len(opened.labels)))
    done = 0
    with Bar("classify", len(documents), unit="texts") as bar:
        for numbers, found in opened.logprobs([ids[:-1] for ids in documents]):
            logprobs[numbers] = found
            bar.update(done := done + len(numbers))
    probabilities = _probabilities(logprobs)
    directory.write_atomic(
        workdir / PREDICTIONS,
        "".join(_predictions(prepared, opened, documents, labels, probabilities)),
    )
    results = _results(opened, labels, probabilities)
    directory.write_json(workdir / RESULTS, results)
    classification_plot.write(workdir / PLOT, probabilities, labels, opened.labels)
    show(results)


def _predictions(
    prepared: Prepared,
    opened: Classifier,
    documents: list[np.ndarray],
    labels: np.ndarray,
    probabilities: np.ndarray,
) -> Any:
    """A line of JSON a text, in the order that they were prepared in."""
    keys = np.load(prepared.folder / "valid" / KEYS)
    for key, ids, label, row in zip(keys, documents, labels, probabilities):
        text = opened.tokenizer.decode(ids[:-1]).decode("utf-8", "replace")
        line = {
            "key": f"{key:016x}",
            "text": text,  # what was read of it
            "label": opened.labels[label],
            "guess": opened.labels[row.argmax()],
            "probabilities": [round(p, 6) for p in row.tolist()],
        }
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _results(
    opened: Classifier, labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    measured = classification.measure(probabilities, labels, opened.labels)
    overall = {
        "accuracy": measured.accuracy,
        "macro_f1": measured.macro_f1,
        "roc_auc": measured.roc_auc,
        "ece": measured.calibration_error,
        "brier": measured.brier,
    }
    return {
        "step": opened.step,
        "texts": len(labels),
        "most_common": float(np.bincount(labels).max() / len(labels)),
        **{name: _written(each) for name, each in overall.items()},
        "classes": [
            {
                "name": each.name,
                "texts": each.rows,
                "precision": _written(each.precision),
                "recall": _written(each.recall),
                "f1": _written(each.f1),
            }
            for each in measured.classes
        ],
        "confusion": measured.confusion.tolist(),  # rows by label, then by guess
    }


def _written(measured: Estimate) -> dict[str, float] | None:
    """None where there is nothing to measure: JSON has no NaN."""
    return None if math.isnan(measured.value) else measured._asdict()


def show(results: dict[str, Any]) -> None:
    """Print the scores."""
    print(
        f"{results['texts']:,} held-out texts, step {results['step']};"
        f" {results['most_common']:.4f} are of the most common class:"
    )
    for name in ("accuracy", "macro_f1", "roc_auc", "ece", "brier"):
        if results[name] is not None:
            print(f"  {name:9} {Estimate(**results[name])}")
    for each in results["classes"]:
        if each["f1"] is not None:
            print(f"  F1 of {each['name']}: {Estimate(**each['f1'])}")
    print(flush=True)
