"""SHARDS: documents as token ids on disk, read through memory maps.

Before: tokenizer.encode. After: rows. A split ('train', 'valid') is a folder of
  tokens-00000.bin ...   ids, little-endian, in the dtype that index.json names
  weights-00000.bin ...  uint8, 1 where an id is trained on; without them all are
  documents.npy          [documents, 3] int64: shard, first token, length
  index.json             counts (documents, tokens, trained, text bytes); dtype
A document stands whole in one shard: BOS, its tokens, STOP; no BOS where the tokenizer
has none. A conversation is a document as its template has it.
"""

import array
import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from genlm.errors import UserError

SHARD_TOKENS = 1 << 26  # a new shard begins once the last one holds this many


class Writer:
    """Appends documents to a split's folder; `close` writes the index last.

    A context manager, so that a disk that is full leaves no file open.
    """

    def __init__(self, folder: Path, vocab_size: int, weighted: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._weighted = folder, weighted
        self.dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self.bytes = self._trained = 0
        self._documents = array.array("q")
        self._shard, self._tokens, self._start = -1, SHARD_TOKENS, 0
        self._file: Any = None
        self._weights: Any = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # already closed, unless something failed
            self._close_shard()

    def begin(self, bos: int | None) -> None:
        """Open a document, with `bos` if there is one; in a new shard if the last one
        is full."""
        if self._tokens >= SHARD_TOKENS:
            self._close_shard()
            self._shard, self._tokens = self._shard + 1, 0
            self._file = open(self.folder / f"tokens-{self._shard:05d}.bin", "wb")
            if self._weighted:
                name = f"weights-{self._shard:05d}.bin"
                self._weights = open(self.folder / name, "wb")
        self._start = self._tokens
        if bos is not None:
            self.append(np.asarray([bos]), 0)

    def append(self, ids: np.ndarray, num_bytes: int) -> None:
        """Add ids [n] that spell `num_bytes` bytes of text to the open document."""
        self._file.write(ids.astype(self.dtype).tobytes())
        self._tokens += len(ids)
        self.bytes += num_bytes

    def end(self, stop: int) -> None:
        """Close the document with `stop`."""
        self.append(np.asarray([stop]), 0)
        self._trained += self._close_document() - 1

    def add(self, ids: np.ndarray, trained: np.ndarray, num_bytes: int) -> None:
        """A document of its own: ids [n], which of them are trained on [n], and the
        bytes of text that those spell."""
        self.begin(None)
        self.append(ids, num_bytes)
        self._weights.write(trained.astype(np.uint8).tobytes())
        self._trained += int(trained[1:].sum())  # nothing foretells the first
        self._close_document()

    def _close_document(self) -> int:
        """Note where the open document stands; its length."""
        length = self._tokens - self._start
        self._documents.extend((self._shard, self._start, length))
        return length

    def close(self) -> dict[str, Any]:
        """Write documents.npy and index.json; returns the index."""
        self._close_shard()
        documents = np.asarray(self._documents, np.int64).reshape(-1, 3)
        np.save(self.folder / "documents.npy", documents)
        index = {
            "dtype": self.dtype.str,
            "documents": len(documents),
            "tokens": int(documents[:, 2].sum()),
            "trained": self._trained,
            "bytes": self.bytes,
        }
        (self.folder / "index.json").write_text(json.dumps(index, indent=2) + "\n")
        return index

    def _close_shard(self) -> None:
        for file in (self._file, self._weights):
            if file:
                file.close()


class Tokens:
    """A split opened for reading.

    Raises:
      UserError: a file is missing, cut or unreadable.
    """

    def __init__(self, folder: Path):
        try:
            self.index = json.loads((folder / "index.json").read_bytes())
            self.documents = np.load(folder / "documents.npy", mmap_mode="r")
            self.shards = [
                np.memmap(path, self.index["dtype"], mode="r")
                for path in sorted(folder.glob("tokens-*.bin"))
            ]
            self.weights = [
                np.memmap(path, np.uint8, mode="r")
                for path in sorted(folder.glob("weights-*.bin"))
            ]
            sizes = [sum(map(len, files)) for files in (self.shards, self.weights)]
            self.trained = int(self.index["trained"])
            whole = sizes[0] == self.index["tokens"] and sizes[1] in (0, sizes[0])
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is damaged: {error}; prepare it anew") from error
        if not whole:
            raise UserError(f"{folder} is damaged: tokens are missing; prepare it anew")

    def bytes_per_token(self) -> float:
        """Text bytes a trained token, STOP counted and BOS not (it is never a target).

        Turns nats a token into bits a byte of text. Without BOS the first token of a
        document is read and never a target, though its bytes count.
        """
        return self.index["bytes"] / self.trained
