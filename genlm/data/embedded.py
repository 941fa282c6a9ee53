"""THE EMBEDDED CORPUS: prose and docstrings that every Python installation carries.

Read from the interpreter that runs, never copied: the language reference of
`pydoc_data.topics`, and the docstrings of the standard library. Licence: PSF-2.0
(https://docs.python.org/3/license.html). It differs a little between Python versions.
"""

import ast
import functools
from pathlib import Path
import sysconfig
from typing import Iterator

from genlm.data.sources import Document, of_text

LICENCE = "PSF-2.0 (Python Software Foundation)"
_LONG = 40  # characters; shorter paragraphs repeat by nature
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
_SKIPPED |= {"pydoc_data", "__pycache__"}


def read() -> Iterator[Document]:
    """A document a topic of the language reference, and one a docstring.

    Topics hold each other's sections and classes each other's docstrings, so a long
    paragraph that stood before is left out: else much of what is held out has been
    read in training.
    """
    seen: set[str] = set()
    for name, text in _texts():
        if new := "\n\n".join(p for p in text.split("\n\n") if _is_new(p, seen)):
            yield of_text(name, new)


@functools.cache
def _texts() -> tuple[tuple[str, str], ...]:
    """(name, text) of everything, read once a process: 3 MB."""
    from pydoc_data.topics import topics

    texts = [(f"topic {name}", topics[name]) for name in sorted(topics)]
    for path in modules():
        source = path.read_text("utf-8", "replace")
        texts += [(f"module {path.name}", text) for text in docstrings(source)]
    return tuple(texts)


def _is_new(paragraph: str, seen: set[str]) -> bool:
    words = " ".join(paragraph.split())
    if len(words) < _LONG:
        return True
    if words in seen:
        return False
    seen.add(words)
    return True


def files() -> list[Path]:
    """Everything that is read."""
    from pydoc_data import topics

    return [Path(topics.__file__), *modules()]


def modules() -> list[Path]:
    """Source files of the standard library, without its tests, in a fixed order."""
    library = Path(sysconfig.get_paths()["stdlib"])
    return sorted(
        path
        for path in library.rglob("*.py")
        if not _SKIPPED & set(path.relative_to(library).parts)
    )


def docstrings(source: str) -> list[str]:
    """The docstrings of a module, its classes and functions, in order of the source.

    Each but the module's own is headed by its name, as documentation would head it.
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return list(_docstrings(module, ""))


def _docstrings(node: ast.AST, prefix: str) -> Iterator[str]:
    if isinstance(node, ast.Module) and (text := ast.get_docstring(node)):
        yield text
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            continue
        name = prefix + child.name
        if text := ast.get_docstring(child):
            yield f"{_heading(child, name)}\n{text}"
        yield from _docstrings(child, name + ".")


def _heading(node: ast.ClassDef | ast.FunctionDef, name: str) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class {name}"
    return f"{name}({ast.unparse(node.args)})"
