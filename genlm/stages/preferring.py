"""PREFERRING: what the stages reward and dpo have in common: rows of answers side by
side, and how well held-out ones are told apart.

Before: prepare_preferences. After: batches with what stands beside each row.
"""

from pathlib import Path
from typing import Any, Callable, Iterator

import jax
from ml_collections import ConfigDict
import numpy as np

from genlm import tokenizer as tokenizers
from genlm.data import batches
from genlm.errors import UserError
from genlm.parallel import hosts, sharding
from genlm.stages import prepare_preferences
from genlm.stages.prepare import Prepared

Beside = dict[str, np.ndarray]


def prepared(
    config: ConfigDict, workdir: Path, source: Path, arrangement: str
) -> Prepared:
    """The rows that a config names, or those that are prepared now in workdir/data.

    Raises:
      UserError: what is named holds no preferences.
    """
    if not config.data.prepared:
        base = tokenizers.load(source / "tokenizer")
        prepare_preferences.run(config, workdir / "data", source, base, arrangement)
    found = Prepared(Path(config.data.prepared or workdir / "data"))
    if "arrangement" not in found.summary:
        raise UserError(f"data.prepared: {found.folder.parent} has no preferences")
    if (own := found.summary["arrangement"]) != arrangement:
        raise UserError(
            f"data.prepared: {found.folder.parent} holds {own}, and this needs"
            f" {arrangement}; prepare them for this stage"
        )
    return found


def in_order(
    rows: Prepared, split: str, beside: Beside, size: int, mesh: jax.sharding.Mesh
) -> Iterator[Any]:
    """Every row of a split once, on the devices; the last batch is filled with PAD."""
    tokens, index = rows.split(split)
    process, num_processes = sharding.rows_of_process(mesh)
    for batch in batches.valid_batches(
        tokens,
        index,
        batch_size=size,
        pad=rows.tokenizer.special.pad,
        process=process,
        num_processes=num_processes,
        beside=beside,
    ):
        yield sharding.global_batch(batch, mesh)


def make_validation(
    loss: Callable[[Any, Any], Any],
    rows: Prepared,
    beside: Beside,
    size: int,
    mesh: jax.sharding.Mesh,
) -> Callable[[Any], dict[str, float]]:
    """A function of a model's parameters: the loss and the other metrics of held-out
    rows, each by its name with 'valid_' before it.

    Args:
      loss: of parameters and a batch, as train.losses has it.
    """
    look = jax.jit(lambda params, batch: loss(params, batch)[1])

    def validate(params: Any) -> dict[str, float]:
        totals: dict[str, float] = {}
        for batch in in_order(rows, "valid", beside, size, mesh):
            for name, value in hosts.fetch(look(params, batch)).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        weight = totals.pop("weight")
        return {f"valid_{name}": total / weight for name, total in totals.items()}

    return validate
