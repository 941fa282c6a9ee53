"""One of two real processes of two devices: reads its own rows, joins a global batch,
takes three train steps, prints the losses. Run by test_hosts."""

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


def main(folder: str) -> None:
    hosts.setup()
    tokens = shards.Tokens(Path(folder))
    data = batches.TrainBatches(
        tokens,
        rows.index(tokens.documents, MODEL.max_length),
        Plan(8),
        seed=0,
        pad=0,
        process=jax.process_index(),
        num_processes=jax.process_count(),
    )
    mesh, made, specs = _setup(4, {"data": 2, "fsdp": 2}, MODEL)
    with jax.set_mesh(mesh):
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
    main(sys.argv[1])
