"""The coordinate check of muP (arXiv:2203.03466, appendix D.1): after a few steps at
one learning rate, what a layer gives and what the logits are keep their size as the
model grows wider. Without the transfer they do not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.train import losses, optimizer, state, step

WIDTHS = (32, 64, 128)
STEPS = 5
BASE = TransformerConfig(
    vocab_size=64,
    max_length=32,
    num_layers=2,
    model_dim=WIDTHS[0],
    num_heads=2,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=4 * WIDTHS[0],
)


def _batch() -> dict[str, jax.Array]:
    tokens = jax.random.randint(jax.random.key(0), (8, 33), 0, 64)
    ones = jnp.ones((8, 32), jnp.int32)
    return {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "weights": ones.astype(jnp.float32),
        "segments": ones,
        "positions": ones * jnp.arange(32),
    }


def _change(width: int, mup: bool, name: str) -> list[float]:
    """How far the last hidden states and the logits move, root mean square."""
    times = width // WIDTHS[0]
    model = dataclasses.replace(
        BASE,
        model_dim=width,
        num_heads=2 * times,
        num_kv_heads=2 * times,
        mlp_dim=4 * width,
        mup_base_width=WIDTHS[0] if mup else 0,
    )
    config = optimizer.OptimizerConfig(
        learning_rate=1e-2, name=name, schedule="constant", warmup_steps=0
    )
    specs = transformer.param_specs(model)
    made = optimizer.make_optimizer(config, STEPS, specs, width_ratio=model.width_ratio)
    train_step = jax.jit(
        step.make_train_step(
            losses.make_next_token_loss(model),
            made,
            optimizer.make_schedule(config, STEPS),
        )
    )

    @jax.jit
    def sizes(params):
        hidden, inside, _ = transformer.apply(params, _batch(), model, look=True)
        return inside["activation"][-1], transformer.unembed(params, hidden, model)

    now = state.make(specs, made, jnp.zeros((), jnp.int32))
    before, logits_before = sizes(now.params)
    for _ in range(STEPS):
        now, _ = train_step(now, _batch(), None)
    after, logits_after = sizes(now.params)
    moved = jnp.sqrt(jnp.mean(jnp.square(logits_after - logits_before)))
    return [float(after - before), float(moved)]


def _slopes(mup: bool, name: str) -> np.ndarray:
    """Of the logarithms of both, over that of the width."""
    changes = [_change(width, mup, name) for width in WIDTHS]
    return np.polyfit(np.log(WIDTHS), np.log(changes), 1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_coordinates_keep_their_size(name: str):
    with_transfer, without = _slopes(True, name), _slopes(False, name)
    assert np.abs(with_transfer).max() < 0.2, with_transfer
    assert without.max() > 0.4, without
