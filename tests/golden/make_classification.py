"""Write classification.json: probabilities of naive Bayes on real texts, and what
scikit-learn measures of them.

  python tests/golden/make_classification.py FOLDER_OF_DATA_SETS    (scikit-learn 1.9.1)
"""

import json
from pathlib import Path
import sys

import numpy as np
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

SETS = {
    "spam": ("classification/sms_spam.jsonl", "text", "label", 150, 200),
    "pubmedqa": ("retrieval/pubmedqa.jsonl", "long_answer", "decision", 150, 150),
}


def _predicted(path: Path, text: str, label: str, num_train: int, num_valid: int):
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    texts, labels = [r[text] for r in rows], [r[label] for r in rows]
    model = make_pipeline(CountVectorizer(max_features=200), MultinomialNB(alpha=3))
    model.fit(texts[:num_train], labels[:num_train])
    p = model.predict_proba(texts[num_train : num_train + num_valid]).round(2)
    p[:, -1] = (1 - p[:, :-1].sum(1)).round(2)
    number = {name: i for i, name in enumerate(model.classes_)}
    return p, np.array([number[n] for n in labels[num_train : num_train + num_valid]])


def _measured(p: np.ndarray, labels: np.ndarray) -> dict:
    guesses = p.argmax(1)
    precision, recall, f1, count = metrics.precision_recall_fscore_support(
        labels, guesses, zero_division=0
    )
    binary = p.shape[1] == 2
    return {
        "accuracy": metrics.accuracy_score(labels, guesses),
        "macro_f1": metrics.f1_score(labels, guesses, average="macro"),
        "roc_auc": metrics.roc_auc_score(
            labels, p[:, 1] if binary else p, multi_class="ovr", average="macro"
        ),
        "ece": _calibration_error(p.max(1), guesses == labels),
        "brier": metrics.brier_score_loss(
            labels, p[:, 1] if binary else p, scale_by_half=False
        ),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "count": count.tolist(),
        "confusion": metrics.confusion_matrix(labels, guesses).tolist(),
    }


def _calibration_error(confidence: np.ndarray, is_right: np.ndarray) -> float:
    right, told = calibration_curve(is_right, confidence, n_bins=15)
    edges = np.linspace(0, 1, 16)[1:-1]  # the bins of calibration_curve
    counts = np.bincount(np.searchsorted(edges, confidence), minlength=15)
    return float(np.sum(np.abs(right - told) * counts[counts > 0]) / len(confidence))


def main() -> None:
    found = {}
    for name, (path, *how) in SETS.items():
        p, labels = _predicted(Path(sys.argv[1], path), *how)
        found[name] = {"probabilities": p.tolist(), "labels": labels.tolist()}
        found[name]["measured"] = _measured(p, labels)
    target = Path(__file__).with_name("classification.json")
    target.write_text(json.dumps(found) + "\n", "utf-8")


if __name__ == "__main__":
    main()
