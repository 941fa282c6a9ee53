"""`genlm embed`: lines of text -> vectors, what is nearest to them, and analogies."""

import argparse
import json
from pathlib import Path
from typing import Any

from genlm.cli import lines
from genlm.errors import UserError, require_text

EXAMPLE = "genlm embed --from runs/embed --corpus notes.txt --nearest 3 questions.txt"
_SHOWN = 5  # nearest, where it is not said how many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", nargs="?", help="a file, a text a line; - for stdin")
    add("--from", dest="source", required=True, type=Path, help="a run directory")
    add("--out", type=Path, help="write the vectors as this .npy file, a row a line")
    add("--corpus", help="a file of texts or words to look among, one a line")
    add("--nearest", type=int, default=0, metavar="K", help="print the K nearest ones")
    add(
        "--words",
        action="store_true",
        help="lines are words: take the model's own embedding of each; without --corpus"
        " look among all words that are one token",
    )
    add(
        "--analogy",
        nargs=3,
        metavar=("A", "B", "C"),
        help="A is to B as C is to what? Of the model's own embeddings of words",
    )
    add("--pool", help="mean or last; else as the run was trained, or mean")
    add("--size", type=int, help="leading numbers of a vector to keep; 0 for all")
    add("--max-length", type=int, help="tokens; longer texts are cut there")
    add(
        "--checkpoint",
        default="last",
        help="last, best, a step, or mean:K of the last K",
    )


def main(arguments: argparse.Namespace) -> int:
    check(arguments)
    texts = lines.read(arguments.file, "FILE") if arguments.file else []
    corpus = lines.read(arguments.corpus, "--corpus") if arguments.corpus else []

    from genlm.parallel import hosts
    from genlm.stages import vectors

    names = ("pool", "size", "max_length")
    asked = {name: getattr(arguments, name) for name in names}
    changes: dict[str, Any] = {n: x for n, x in asked.items() if x is not None}
    hosts.setup()
    embedder = vectors.open_embedder(arguments.source, arguments.checkpoint, **changes)
    if arguments.analogy:
        _print_analogy(embedder, arguments.analogy, corpus, arguments.nearest or _SHOWN)
        return 0
    embed = embedder.words if arguments.words else embedder.vectors
    found = embed(texts)
    if arguments.out:
        _write(arguments.out, found)
    if arguments.nearest:
        corpus = corpus or embedder.vocabulary()
        _print_nearest(texts, found, corpus, embed(corpus), arguments.nearest)
    elif not arguments.out:
        for text, vector in zip(texts, found):
            row = {"text": text, "vector": [round(x, 6) for x in vector.tolist()]}
            print(json.dumps(row, ensure_ascii=False), flush=True)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Say what can be said before a model is opened."""
    require_text(str(arguments.source), "--from")
    if not arguments.source.is_dir():
        raise UserError(f"--from: no directory {arguments.source}")
    if bool(arguments.file) == bool(arguments.analogy):
        raise UserError("give a FILE of texts (- for stdin), or --analogy A B C")
    if arguments.out and arguments.out.suffix != ".npy":
        raise UserError(f"--out {arguments.out} does not end in .npy")
    if arguments.nearest < 0:
        raise UserError(f"--nearest {arguments.nearest} is below 0")
    if arguments.nearest and not (
        arguments.corpus or arguments.words or arguments.analogy
    ):
        raise UserError("--nearest looks among the lines of --corpus FILE; give one")
    if arguments.corpus and not (arguments.nearest or arguments.analogy):
        raise UserError("--corpus is looked through by --nearest K; give K")
    for word in arguments.analogy or ():
        require_text(word, "--analogy")
        if not word.strip():
            raise UserError("--analogy has an empty word")


def _print_nearest(
    texts: list[str], queries: Any, corpus: list[str], among: Any, count: int
) -> None:
    """Each text, and below it the nearest of the corpus with their cosines."""
    from genlm.retrieval import neighbours

    found = neighbours.nearest(queries, among, count)
    for text, places, cosines in zip(texts, found.places, found.cosines):
        print(text)
        for place, cosine in zip(places, cosines):
            print(f"  {cosine:.3f}  {corpus[place]}", flush=True)


def _print_analogy(embedder: Any, asked: list[str], corpus: list[str], k: int) -> None:
    """What C is to, as A is to B."""
    import numpy as np

    from genlm.retrieval import neighbours

    words = list(dict.fromkeys([*asked, *(corpus or embedder.vocabulary())]))
    places = np.array([[words.index(word) for word in asked]])
    found = neighbours.analogies(embedder.words(words), places, k)
    a, b, c = asked
    print(f"{a} is to {b} as {c} is to")
    for place, cosine in zip(found.places[0], found.cosines[0]):
        print(f"  {cosine:.3f}  {words[place]}")


def _write(path: Path, vectors: Any) -> None:
    """The vectors as one .npy file, whole or not at all."""
    import io

    import numpy as np

    from genlm.runs import directory

    buffer = io.BytesIO()
    np.save(buffer, vectors)
    directory.write_atomic(path, buffer.getvalue())
    print(f"{path}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers")
