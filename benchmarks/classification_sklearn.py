"""THE PEER of classification: characters' tf-idf and logistic regression, scikit-learn.

  python classification_sklearn.py SPLIT.json

Reads {"train": {"texts", "labels"}, "valid": {"texts"}} and prints the probabilities of
the held-out texts as JSON. It imports nothing of genlm, so that any Python which has
scikit-learn may run it.
"""

import json
from pathlib import Path
import sys

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def main() -> None:
    """Learn, and print what it says of the held-out texts."""
    split = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    features = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 5), lowercase=False, sublinear_tf=True
    )
    model = make_pipeline(features, LogisticRegression(C=100.0, max_iter=1000))
    model.fit(split["train"]["texts"], split["train"]["labels"])
    found = model.predict_proba(split["valid"]["texts"])
    print(json.dumps(found.tolist()))


if __name__ == "__main__":
    main()
