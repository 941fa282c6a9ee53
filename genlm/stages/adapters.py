"""ADAPTERS at work: several changes over one base, each row of a batch with its own.

Before: runs with an adapter, or folders of PEFT's. After: writing, with one batch for
all of them.
"""

from pathlib import Path
from typing import Any, Mapping, Sequence

import jax
import numpy as np

from genlm.errors import UserError
from genlm.interop import adapter
from genlm.interop.adapter import Adapter
from genlm.model import lora

BASE = "base"  # the name of no change


def opened(names: Sequence[str], base: Path) -> dict[str, Adapter]:
    """The adapters of the model of the run `base` in these folders, each once.

    Raises:
      UserError: a folder has none, or one of another model.
    """
    found = {}
    for name in dict.fromkeys(names):
        if name != BASE:
            found[name] = adapter.open_for(Path(name), base)
            if not all(np.isfinite(x).all() for x in jax.tree.leaves(found[name].tree)):
                raise UserError(f"{name} holds numbers that are not finite")
    return found


def beside(params: Any, held: Mapping[str, Adapter], names: Sequence[str]) -> Any:
    """`params` for batches of which row b is changed by the adapter names[b]."""
    numbers = {name: i for i, name in enumerate(held)} | {BASE: -1}
    return lora.several(
        params,
        [each.tree for each in held.values()],
        [each.config for each in held.values()],
        np.asarray([numbers[name] for name in names]),
    )
