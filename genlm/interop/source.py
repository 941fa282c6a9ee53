"""A SOURCE: a model on disk, whatever its format, as `weights.load` reads it."""

from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """A model on disk: a config.json's contents, and its tensors by Hugging Face's
    names."""

    @property
    def config(self) -> dict[str, Any]:
        """As in config.json of transformers ("model_type", ...)."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor, by its name in transformers' checkpoint files."""
        ...

    def read(self, name: str) -> np.ndarray:
        """One tensor: float32, C-contiguous, in its own memory."""
        ...
