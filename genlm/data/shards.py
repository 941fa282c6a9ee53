"""SHARDS: documents as token ids on disk, read through memory maps.

Before: tokenizer.encode. After: rows. A split ('train', 'valid') is a folder of
  tokens-00000.bin ...   ids, little-endian, in the dtype that index.json names
  documents.npy          [documents, 3] int64: shard, first token, length
  index.json             counts (documents, tokens, text bytes); dtype
A document stands whole in one shard: BOS, its tokens, STOP; no BOS where the tokenizer
has none.
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

    def __init__(self, folder: Path, vocab_size: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self.bytes = 0
        self._documents = array.array("q")
        self._shard, self._tokens, self._start = -1, SHARD_TOKENS, 0
        self._file: Any = None

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
        length = self._tokens - self._start
        self._documents.extend((self._shard, self._start, length))

    def close(self) -> dict[str, Any]:
        """Write documents.npy and index.json; returns the index."""
        self._close_shard()
        documents = np.asarray(self._documents, np.int64).reshape(-1, 3)
        np.save(self.folder / "documents.npy", documents)
        index = {
            "dtype": self.dtype.str,
            "documents": len(documents),
            "tokens": int(documents[:, 2].sum()),
            "bytes": self.bytes,
        }
        (self.folder / "index.json").write_text(json.dumps(index, indent=2) + "\n")
        return index

    def _close_shard(self) -> None:
        if self._file:
            self._file.close()


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
            whole = sum(map(len, self.shards)) == self.index["tokens"]
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is damaged: {error}; prepare it anew") from error
        if not whole:
            raise UserError(f"{folder} is damaged: tokens are missing; prepare it anew")

    def bytes_per_token(self) -> float:
        """Text bytes a trained token, STOP counted and BOS not (it is never a target).

        Turns nats a token into bits a byte of text. Without BOS the first token of a
        document is read and never a target, though its bytes count.
        """
        return self.index["bytes"] / (self.index["tokens"] - self.index["documents"])
