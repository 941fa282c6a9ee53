"""`genlm classify`: lines of text -> the class of each."""

import argparse
import contextlib
import itertools
import json
from pathlib import Path
import sys
from typing import Any, BinaryIO, Iterator

from genlm.errors import UserError, require_text

EXAMPLE = "genlm classify --from runs/spam messages.txt --json"
_AT_ONCE = 1024  # lines; sorted by length, so that few tokens are padding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", required=True, type=Path, help="a classifier's run")
    add("file", nargs="?", default="-", help="a text a line; - (or none) for stdin")
    add("--json", action="store_true", help="a JSON object a line, all probabilities")
    add("--checkpoint", default="last", help="last, best, a step, or mean:K")


def main(arguments: argparse.Namespace) -> int:
    require_text(str(arguments.source), "--from")
    if not arguments.source.is_dir():
        raise UserError(f"--from: no directory {arguments.source}")
    with _opened(arguments.file) as file:
        from genlm.interop.classifier import open_classifier
        from genlm.parallel import hosts
        from genlm.runs.progress import Bar

        hosts.setup()
        classifier = open_classifier(arguments.source, arguments.checkpoint)
        lines = _lines(file, arguments.file)
        at_once = 1 if file.isatty() else _AT_ONCE
        done = 0
        with Bar("classify", None, unit="texts") as bar:
            while texts := list(itertools.islice(lines, at_once)):
                for text, row in zip(texts, _rows(classifier, texts)):
                    print(_said(text, row, classifier.labels, arguments.json))
                sys.stdout.flush()
                bar.update(done := done + len(texts))
    return 0


def _opened(name: str) -> Any:
    """The file, or standard input, as a context manager."""
    if name == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    where = "standard input" if name == "-" else name
    try:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{where}:{number}: not UTF-8, bad byte at {error.start}"
                ) from error
            if number == 1:
                line = line.removeprefix("\ufeff")
            yield line.removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UserError(f"cannot read {where}: {error.strerror}") from error


def _rows(classifier: Any, texts: list[str]) -> Iterator[list[float] | None]:
    """The probabilities of each text; None of one with nothing in it."""
    is_text = [bool(text.strip()) for text in texts]
    found = iter(classifier.probabilities(list(itertools.compress(texts, is_text))))
    return (next(found).tolist() if told else None for told in is_text)


def _said(
    text: str, row: list[float] | None, labels: tuple[str, ...], as_json: bool
) -> str:
    """What is printed of a text; of an empty line an empty one, so that the lines of
    what was read and what is written stay side by side."""
    likeliest = None if row is None else max(range(len(row)), key=row.__getitem__)
    if as_json:
        said = {
            "text": text,
            "label": None if likeliest is None else labels[likeliest],
            "probabilities": dict(zip(labels, row or [])),
        }
        return json.dumps(said, ensure_ascii=False)
    if row is None or likeliest is None:
        return ""
    return f"{labels[likeliest]}\t{row[likeliest]:.4f}"
