"""KINDS: labelled texts that every Python installation carries, of three kinds.

Before: nothing; read from the interpreter that runs. After: data.labelled, as a first
set to classify: a paragraph of the language's reference, the beginning of a docstring,
or code of the standard library. Licence: PSF-2.0, as of data.embedded.
"""

import ast
from pathlib import Path
import re
from typing import Iterator

from genlm.data import embedded

EMBEDDED = "embedded:kinds"
LICENCE = embedded.LICENCE
_EACH = 400  # texts of a kind at the most, spread over all there are
_EVERY = 8  # module is read: these have enough
_SHORT, _LONG = 40, 300  # characters


def files() -> list[Path]:
    """Everything that is read."""
    from pydoc_data import topics

    return [Path(topics.__file__), *_modules()]


def _modules() -> list[Path]:
    return embedded.modules()[::_EVERY]


def read() -> Iterator[tuple[str, str]]:
    """(text, 'code', 'docstring' or 'reference'), in a fixed order."""
    for kind, texts in (
        ("code", _code()),
        ("docstring", _docstrings()),
        ("reference", _reference()),
    ):
        found = list(dict.fromkeys(t[:_LONG] for t in texts if len(t) >= _SHORT))
        for number in range(min(_EACH, len(found))):
            yield found[number * len(found) // min(_EACH, len(found))], kind


def _code() -> Iterator[str]:
    """What stands in modules beside docstrings."""
    for path in _modules():
        source = path.read_text("utf-8", "replace")
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError):
            continue
        lines = source.splitlines()
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own = node.body[1:] if ast.get_docstring(node) else node.body
                if own:
                    yield "\n".join(lines[own[0].lineno - 1 : own[-1].end_lineno])


def _docstrings() -> Iterator[str]:
    for path in _modules():
        for text in embedded.docstrings(path.read_text("utf-8", "replace")):
            yield text.partition("\n")[2].strip()  # without the name at its head


def _reference() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            yield paragraph.strip()
