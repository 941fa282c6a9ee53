"""DOCSTRINGS: what the standard library says of its own functions and classes.

Before: the sources of the interpreter that runs, parsed and never imported, and the
built-in types. After: synthetic, which makes questions of it. Only what is public and
says what it does in one short sentence; the same on every machine with the same Python.
"""

import ast
import builtins
import functools
import inspect
from pathlib import Path
import re
import sys
import sysconfig
import types
from typing import Iterator, NamedTuple

from genlm.data import embedded

SHORTEST, LONGEST = 15, 160  # characters of a sentence that answers a question
_OTHERS = {"idlelib", "lib2to3", "turtledemo", "distutils", "ntpath", "antigravity"}
_SPOKEN_OF = {  # the name by which a program asks for a module
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "posixpath": "os.path",
}
_SIGNATURE = re.compile(r"^[\w.]+\(.*?\)( *->.*)?$")
_SENTENCE = re.compile(r"[.!?](?=\s+[A-Z`'\"(]|$)")
_NO_END = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|Mr|Dr|No|incl|resp|approx)\.$")
_NO_PROSE = re.compile(r"[*{}<>|\\=]|--")


class Entry(NamedTuple):
    """One thing of the library and the sentence that says what it is or does."""

    module: str  # "builtins" for what is always there
    name: str  # within its module: "Path.exists"
    kind: str  # "function", "method" or "class"
    sentence: str  # "" where its docstring opens with none

    @property
    def full_name(self) -> str:
        return self.name if self.module == "builtins" else f"{self.module}.{self.name}"


@functools.cache
def everything() -> tuple[Entry, ...]:
    """All that is public, each once, in a fixed order."""
    found: dict[str, Entry] = {}
    for entry in [*_of_builtins(), *_of_sources()]:
        found.setdefault(entry.full_name, entry)
    return tuple(found.values())


def entries() -> list[Entry]:
    """All that is public and says what it is or does in a short sentence."""
    return [entry for entry in everything() if entry.sentence]


def first_sentence(docstring: str) -> str:
    """The sentence that a docstring opens with; '' where there is none to quote."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    if len(paragraphs) > 1 and _SIGNATURE.match(paragraphs[0]):
        paragraphs = paragraphs[1:]
    text = " ".join(paragraphs[0].split())
    ends = (end.end() for end in _SENTENCE.finditer(text))
    end = next((end for end in ends if not _NO_END.search(text[:end])), len(text))
    sentence = text[:end]
    if sentence[-1:].isalnum() and end == len(text):
        sentence += "."
    return sentence if _is_prose(sentence) else ""


def _is_prose(text: str) -> bool:
    return (
        SHORTEST <= len(text) <= LONGEST
        and text[0].isupper()
        and text[-1] in ".!?"
        and text.isascii()
        and text.isprintable()
        and text.count(" ") >= 2
        and text.count("(") == text.count(")")
        and text.count("`") % 2 == 0
        and not _NO_PROSE.search(text)
        and not _SIGNATURE.match(text)
    )


def _of_builtins() -> Iterator[Entry]:
    for name, item in sorted(vars(builtins).items()):
        if name.startswith("_") or getattr(item, "__module__", "") != "builtins":
            continue
        if isinstance(item, types.BuiltinFunctionType):
            yield from _entry("builtins", name, "function", item.__doc__)
        elif isinstance(item, type):
            yield from _entry("builtins", name, "class", item.__doc__)
            yield from _of_type(item)


def _of_type(item: type) -> Iterator[Entry]:
    for method in sorted(name for name in vars(item) if name[0] != "_"):
        value = getattr(item, method)
        if callable(value) and not issubclass(item, BaseException):
            name = f"{item.__name__}.{method}"
            yield from _entry("builtins", name, "method", value.__doc__)


def _of_sources() -> Iterator[Entry]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in embedded.modules():
        module = _module(path.relative_to(library))
        if module:
            try:
                tree = ast.parse(path.read_text("utf-8", "replace"))
            except (SyntaxError, ValueError):
                continue
            yield from _of_body(tree, module, "")


def _module(path: Path) -> str:
    """The dotted name of a public module of the standard library; else ''."""
    parts = [*path.parent.parts, path.stem]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    if not parts or parts[0] not in sys.stdlib_module_names or set(parts) & _OTHERS:
        return ""
    name = ".".join(parts)
    if name in _SPOKEN_OF:
        return _SPOKEN_OF[name]
    return "" if any(part.startswith("_") for part in parts) else name


def _of_body(node: ast.AST, module: str, prefix: str) -> Iterator[Entry]:
    """Entries of a module or class, also of what stands under an `if` or a `try`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.If, ast.Try)):
            yield from _of_body(child, module, prefix)
        elif isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            name = prefix + child.name
            yield from _entry(module, name, "class", ast.get_docstring(child))
            yield from _of_body(child, module, f"{name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not any(_is_attribute(d) for d in child.decorator_list):
                kind = "method" if prefix else "function"
                text = ast.get_docstring(child)
                yield from _entry(module, prefix + child.name, kind, text)


def _is_attribute(decorator: ast.expr) -> bool:
    """Whether it makes a function something that is read and not called."""
    return re.search(r"property|\.setter|\.deleter", ast.unparse(decorator)) is not None


def _entry(module: str, name: str, kind: str, text: str | None) -> Iterator[Entry]:
    if not name.split(".")[-1].startswith("_"):
        yield Entry(module, name, kind, first_sentence(text or ""))
