"""One of two real processes of two devices: reads its own rows, joins a global batch,
takes three train steps, prints the losses. Its arguments: where the tokens are, and
the mesh as JSON. Run by test_hosts."""

import json
from pathlib import Path
import sys

import jax

from genlm.data import batches, rows, shards
from genlm.data.plan import Plan
from genlm.parallel import hosts, sharding
from tests.laws.test_mesh import (
    MODEL,
    OPTIMIZER,
    _setup,
    losses,
    optimizer,
    state,
    step,
)


def main(folder: str, sizes: str) -> None:
    hosts.setup()
    mesh, made, specs = _setup(4, json.loads(sizes), MODEL)
    process, num_processes = sharding.rows_of_process(mesh)
    tokens = shards.Tokens(Path(folder))
    data = batches.TrainBatches(
        tokens,
        rows.index(tokens.documents, MODEL.max_length),
        Plan(8),
        seed=0,
        pad=0,
        process=process,
        num_processes=num_processes,
    )
    with sharding.laid_out(mesh):
        train_state = state.born_sharded(specs, made, mesh, seed=0)
        train_step = jax.jit(
            step.make_train_step(
                losses.make_next_token_loss(MODEL),
                made,
                optimizer.make_schedule(OPTIMIZER, 20),
            )
        )
        for number in range(3):
            batch = sharding.global_batch(data[number], mesh)
            train_state, metrics = train_step(train_state, batch)
            print(f"loss={float(metrics['loss']):.6f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
