"""GENLM'S SIDE of train_step: python -m benchmarks.train_genlm SHAPE DTYPE."""

import functools
import sys
from typing import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pairs
from benchmarks.shapes import SHAPES, Shape
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.train import losses
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train.step import make_train_step

PRODUCT = 2048


def main(shape: Shape, dtype: str) -> None:
    hosts.setup()
    makers = {
        f"{n} microbatches": functools.partial(make_step, shape, dtype, n)
        for n in shape.microbatches
    }
    pairs.serve(makers, make_product(dtype))


def make_step(shape: Shape, dtype: str, num_microbatches: int) -> pairs.Step:
    """A step of the pretrain stage, on one random batch."""
    config = TransformerConfig(
        vocab_size=shape.vocab,
        max_length=shape.length,
        num_layers=shape.layers,
        model_dim=shape.width,
        num_heads=shape.heads,
        num_kv_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        mlp_dim=4 * shape.width,
        activation="gelu",
        use_bias=True,
        dtype=dtype,
    )
    mesh = meshes.make(meshes.MeshConfig())
    specs = transformer.param_specs(config)
    optimizing = optimizers.OptimizerConfig(learning_rate=1e-3, warmup_steps=1)
    optimizer = optimizers.make_optimizer(optimizing, 10**6, specs)
    train_step = jax.jit(
        make_train_step(
            losses.make_next_token_loss(config),
            optimizer,
            optimizers.make_schedule(optimizing, 10**6),
            num_microbatches=num_microbatches,
        ),
        donate_argnums=0,
        out_shardings=(
            states.shardings(specs, optimizer, mesh),
            sharding.replicated(mesh),
        ),
    )
    state = states.born_sharded(specs, optimizer, mesh, seed=0)
    batch = sharding.global_batch(whole_rows(shape), mesh)

    def step() -> jax.Array:
        nonlocal state
        with jax.set_mesh(mesh):
            state, metrics = train_step(state, batch, None)
        return metrics["loss"]

    return step


def whole_rows(shape: Shape) -> dict[str, np.ndarray]:
    """The random batch, each row one document."""
    tokens = shape.random_tokens().astype(np.int32)
    ones = np.ones((shape.batch, shape.length), np.int32)
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": ones.astype(np.float32),
        "segments": ones,
        "positions": ones * np.arange(shape.length, dtype=np.int32),
    }


def make_product(dtype: str) -> Callable[[], float]:
    x = jax.random.normal(jax.random.key(0), (PRODUCT, PRODUCT)).astype(dtype)
    multiply = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    return lambda: pairs.product_flops(lambda: multiply(x).block_until_ready(), PRODUCT)


if __name__ == "__main__":
    main(SHAPES[sys.argv[1]], sys.argv[2])
