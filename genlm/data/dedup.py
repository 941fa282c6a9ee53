"""DEDUPLICATION: the same text twice teaches nothing new and leaks the held-out set.

Before: clean. After: the split and the tokenizer. Exact: two documents are one if
their keys (64 bits of BLAKE2b of the cleaned text) are equal. Among a billion
documents the chance that any two different ones share a key is 3 %.
"""

import hashlib

import numpy as np


class Key:
    """The 64-bit content hash of a text given in parts; how it is cut is no matter."""

    def __init__(self, text: str = ""):
        self._digest = hashlib.blake2b(digest_size=8)
        self.add(text)

    def add(self, text: str) -> None:
        self._digest.update(text.encode("utf-8", "surrogatepass"))

    def value(self) -> int:
        return int.from_bytes(self._digest.digest(), "little")


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """Mask [documents] of those whose key [documents] did not stand before."""
    mask = np.zeros(len(keys), bool)
    mask[np.unique(keys, return_index=True)[1]] = True
    return mask
