"""GENLM'S SIDE of tune: python -m benchmarks.tune_genlm FOLDER DTYPE."""

import dataclasses
import functools
import json
from pathlib import Path
import sys
import tempfile

import jax
import numpy as np

from benchmarks import pairs, train_genlm
from benchmarks.tune import LENGTH, RANK
from genlm.data import batches, rows, shards
from genlm.interop.run import open_run
from genlm.model import lora, transformer
from genlm.model.lora import LoraConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.train import losses
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train.step import make_train_step

CHANGE = LoraConfig(RANK, 16.0, ("layers/attention/*", "layers/mlp/*"))


def main(folder: Path, dtype: str) -> None:
    hosts.setup()
    batch = packed(json.loads((folder / "conversations.json").read_text()))
    count = len(batch["tokens"])
    makers = {
        f"{n} microbatches": functools.partial(make_step, folder, dtype, batch, n)
        for n in range(1, count + 1)
        if count % n == 0 and count // n <= 4
    }
    pairs.serve(makers, train_genlm.make_product(dtype))


def packed(conversations: list) -> dict[str, np.ndarray]:
    """The batch, as the stage sft reads it."""
    with tempfile.TemporaryDirectory() as folder:
        with shards.Writer(Path(folder), 1 << 17, weighted=True) as writer:
            for ids, trained in conversations:
                writer.add(np.asarray(ids), np.asarray(trained), 0)
            writer.close()
        tokens = shards.Tokens(Path(folder))
        index = rows.index(tokens.documents, LENGTH)
        return batches.gather(tokens, index, np.arange(len(index)), pad=0)


def make_step(folder: Path, dtype: str, batch: dict, parts: int) -> pairs.Step:
    """A step of the stage sft, with a change beside a frozen model."""
    opened = open_run(folder / "model")
    config = dataclasses.replace(opened.config, dtype=dtype)
    mesh = meshes.make(meshes.MeshConfig())
    specs = lora.lora_specs(transformer.param_specs(config), CHANGE)
    optimizing = optimizers.OptimizerConfig(learning_rate=1e-3, warmup_steps=1)
    optimizer = optimizers.make_optimizer(optimizing, 10**6, specs)
    of_model = losses.make_next_token_loss(config)

    def loss(params, frozen, rows, key):
        return of_model(lora.adapted(frozen, params, CHANGE), None, rows, key)

    train_step = jax.jit(
        make_train_step(
            loss,
            optimizer,
            optimizers.make_schedule(optimizing, 10**6),
            num_microbatches=parts,
        ),
        donate_argnums=0,
    )
    state = states.born_sharded(specs, optimizer, mesh, seed=0)
    on_device = sharding.global_batch(batch, mesh)

    def step() -> jax.Array:
        nonlocal state
        with jax.set_mesh(mesh):
            state, metrics = train_step(state, on_device, opened.params)
        return metrics["loss"]

    return step


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
