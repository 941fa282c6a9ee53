"""CLEANING: one spelling for what looks the same, nothing invisible.

Before: sources. After: dedup. Unicode is composed (NFC), ends of lines and pages become
LF, control and other invisible characters go, spaces at line ends go, and more than one
blank line becomes one. Indentation, case and punctuation stay: code and verse need
them.
"""

import re
import unicodedata

from genlm.data.sources import Document

_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]")
_LINE_END = re.compile(r"\r\n?|\u2028|\u2029|[\x0b\x0c\x1c-\x1e\x85]")
_TRAILING = re.compile(r"(?<![^\S\n])[^\S\n]+$", re.MULTILINE)  # tried once a run
_BLANK = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """`text` cleaned; cleaning twice changes nothing more."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = _INVISIBLE.sub("", _LINE_END.sub("\n", text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)  # what stood apart may now compose
    return _BLANK.sub("\n\n", _TRAILING.sub("", text))


def clean_document(document: Document) -> Document:
    """`document` with every part cleaned as it is read."""
    return Document(document.source, lambda: map(clean, document.parts()))
