"""MEANING: what vectors are worth, before and after they are trained.

  python -m benchmarks.meaning --data data RUN[:POOL] [RUN[:POOL] ...]

Of each run: how many questions of XQuAD's second half of articles find their passage
(recall@1 and @10), among the passages of that half and among all; Spearman's rank
correlation with what people said of WordSim-353's pairs, of the vectors of the texts
and of the model's own embeddings of the words; and Google's analogies, by the latter.
With 95 % intervals; differences are to the first run named, question by question.
"""

import argparse
from pathlib import Path
import sys
from typing import Any, NamedTuple

import numpy as np

from experiments import embed_xquad
from genlm.data import pairs
from genlm.data.pairs import PairsConfig
from genlm.errors import UserError
from genlm.evaluate import statistics
from genlm.parallel import hosts
from genlm.retrieval import neighbours
from genlm.stages import vectors
from genlm.stages.vectors import Embedder

KS = (1, 10)


class Corpus(NamedTuple):
    """Questions of the held-out half, and all passages, those of that half first."""

    queries: list[str]
    own: np.ndarray
    passages: list[str]
    num_held_out: int


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN[:POOL]", help="the first is compared with")
    add("--data", type=Path, required=True, help="the folder of the data sets")
    add("--max-length", type=int, default=256, help="tokens of a text")
    arguments = parser.parse_args()
    try:
        measure(arguments.runs, arguments.data, arguments.max_length)
    except UserError as error:
        print(f"meaning: {error}", file=sys.stderr)
        return 1
    return 0


def measure(runs: list[str], data: Path, max_length: int) -> None:
    """Print what each run's vectors are worth."""
    corpus = read_corpus(data)
    first: dict[str, np.ndarray] = {}
    hosts.setup()
    for run in runs:
        path, _, pool = run.partition(":")
        changes: dict[str, Any] = {"pool": pool} if pool else {}
        embedder = vectors.open_embedder(Path(path), max_length=max_length, **changes)
        print(f"\n{run}, pool {embedder.how.pool}", flush=True)
        for name, hits in recalls(embedder, corpus).items():
            line = f"  {name}: {percent(statistics.estimate(hits))}"
            if name in first:
                apart = statistics.difference(hits, first[name])
                line += f"; over the first {percent(apart)}"
            first.setdefault(name, hits)
            print(line, flush=True)
        print_words(embedder, data)


def read_corpus(data: Path) -> Corpus:
    """XQuAD, split as the recipe splits it."""
    section = embed_xquad.get_config().embed.data.to_dict()
    names = {n: str(data / Path(section[n]).relative_to("data")) for n in _FILES}
    train, valid = pairs.read(PairsConfig(**{**section, **names}))
    passages = [*valid.passages, *train.passages]
    return Corpus(valid.queries, valid.own, passages, len(valid.passages))


_FILES = ("paths", "passages")


def recalls(embedder: Embedder, corpus: Corpus) -> dict[str, np.ndarray]:
    """Whether each question found its passage [queries], by what was asked."""
    queries = embedder.vectors(corpus.queries)
    passages = embedder.vectors(corpus.passages)
    found = {}
    for count in (corpus.num_held_out, len(passages)):
        ranks = neighbours.ranks(queries, passages[:count], corpus.own)
        for k in KS:
            found[f"recall@{k} of {count}"] = (ranks < k).astype(np.float64)
    return found


def print_words(embedder: Embedder, data: Path) -> None:
    """Print what the vectors say of pairs of words, and of analogies."""
    rows = _lines(data / "eval" / "wordsim353.tsv", "#")
    judged = [line.split("\t") for line in rows]
    human = np.array([float(score) for *_, score in judged])
    for name, embed in (("texts", embedder.vectors), ("words", embedder.words)):
        left, right = (embed([row[side] for row in judged]) for side in (0, 1))
        cosines = neighbours.cosine(left, right)
        found = statistics.estimate(cosines, human, statistic=neighbours.spearman)
        print(f"  WordSim-353, {name}: Spearman {found}", flush=True)
    asked = [line.split() for line in _lines(data / "eval" / "word_analogies.txt", ":")]
    words = embedder.vocabulary()
    place = {word: number for number, word in enumerate(words)}
    known = np.array(
        [[place[w] for w in row] for row in asked if set(row) <= set(place)]
    )
    best = neighbours.analogies(embedder.words(words), known[:, :3]).places[:, 0]
    right_ones = statistics.estimate((best == known[:, 3]).astype(np.float64))
    print(
        f"  analogies: {percent(right_ones)} of the {len(known):,} of {len(asked):,}"
        f" whose words are one token, among {len(words):,}",
        flush=True,
    )


def percent(found: statistics.Estimate) -> str:
    value, low, high = (100 * x for x in found[:3])
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _lines(path: Path, comment: str) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [line for line in lines if line.strip() and not line.startswith(comment)]


if __name__ == "__main__":
    sys.exit(main())
