"""A GGUF FILE AS A SOURCE: the model that llama.cpp runs, as transformers has it.

Before: a path. After: what reads a Source. The parts: gguf_walk and gguf_header (what
is where), gguf_blocks (packed weights), gguf_config (metadata -> config.json) and
gguf_names (the tensors by their names in a checkpoint). gguf_tokenizer reads the
tokenizer inside.
"""

from pathlib import Path
from typing import Any

import numpy as np

from genlm.interop import gguf_blocks, gguf_config, gguf_names, gguf_walk
from genlm.interop.gguf_header import Header


class GGUF:
    """A model in a GGUF file, behind the protocol of `source.Source`."""

    def __init__(self, header: Header):
        """Raises:
        UserError: the file is of no family that is known here, or not whole."""
        self.header = header
        self.config: dict[str, Any] = gguf_config.config_of(header)
        self._places = gguf_names.places(header, self.config)
        self.shapes = {name: place.shape for name, place in self._places.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor: float32, C-contiguous, in its own memory."""
        place = self._places[name]
        stored = place.stored if len(place.stored) == 2 else (1, *place.stored)
        kind, row = place.tensor.kind, stored[1]
        start = place.tensor.start + place.first * row // kind.weights * kind.num_bytes
        array = gguf_blocks.rows(self.header.data, kind, start, (stored[0], row))
        array = array.reshape(place.stored)
        if place.change is not None:
            array = place.change(array, self.config)
        return np.ascontiguousarray(array)


def open_gguf(path: Path) -> GGUF:
    """The model of a GGUF file; its tensors are read when they are asked for.

    Raises:
      UserError: it cannot be read, is damaged, or is of no family that is known here.
    """
    gguf_blocks.require_library()
    return GGUF(gguf_walk.read_header(path))
