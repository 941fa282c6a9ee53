"""What a look sees, against numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import looks, transformer
from genlm.train import health, losses, optimizer, state, step
from tests.laws.families import FAMILIES, alone, weights

TEXTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [11, 12, 13], [14] * 17]
BATCH = jax.tree.map(jnp.asarray, alone(TEXTS, 16))
CONFIG = optimizer.OptimizerConfig(learning_rate=1e-2, warmup_steps=0)


def _probe(name: str):
    model = FAMILIES[name]
    specs = transformer.param_specs(model)
    made = optimizer.make_optimizer(CONFIG, 10, specs)
    now = state.make(specs, made, jnp.zeros((), jnp.int32))
    now = dataclasses.replace(now, params=weights(model))
    probe = health.make_probe(model, losses.make_next_token_loss(model), made)
    return model, made, now, probe(now, BATCH)


@pytest.mark.parametrize(
    "name",
    [
        "gqa",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("biases_gelu", "scan")),
    ],
)
def test_norms_are_those_of_the_step_that_follows(name: str):
    model, made, before, row = _probe(name)
    train_step = step.make_train_step(
        losses.make_next_token_loss(model),
        made,
        optimizer.make_schedule(CONFIG, 10),
    )
    after, metrics = jax.jit(train_step)(before, BATCH, None)
    squares = [np.sum(np.square(v)) for k, v in row.items() if k.startswith("gradient")]
    np.testing.assert_allclose(
        np.sqrt(np.sum(squares)), metrics["gradient_norm"], rtol=1e-4
    )
    for path in ("mlp/up", "attention/o"):
        first, second = path.split("/")
        old, new = (
            np.asarray(s.params["layers"][first][second]) for s in (before, after)
        )
        for layer in range(model.num_layers):
            moved = np.linalg.norm(new[layer] - old[layer]) / np.linalg.norm(old[layer])
            np.testing.assert_allclose(
                row[f"update/layers/{path}"][layer], moved, rtol=1e-3
            )


def test_the_entropy_of_attention():
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(1, 5, n, 8)).astype(np.float32) for n in (4, 2))
    mask = np.tril(np.ones((5, 5), bool))[None]
    real = np.asarray([[True] * 4 + [False]])
    found = looks.attention_entropy(q, k, mask, real, scale=8**-0.5, cap=0.0)
    expected = []
    for head in range(4):
        for t in range(4):
            scores = k[0, : t + 1, head // 2] @ q[0, t, head] / 8**0.5
            p = np.exp(scores - scores.max())
            p /= p.sum()
            expected.append(-np.sum(p * np.log(p)))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-4)
    uniform = looks.attention_entropy(0 * q, k, mask, real, scale=1.0, cap=0.0)
    np.testing.assert_allclose(uniform, np.mean(np.log([1, 2, 3, 4])), rtol=1e-5)


def test_dead_units_are_those_that_no_real_token_turns_on():
    out = np.zeros((2, 3, 8), np.float32)
    out[0, 1, :5] = 1.0
    out[1, 2, 5] = 1.0  # PAD
    real = np.asarray([[True, True, True], [True, True, False]])
    np.testing.assert_allclose(looks.dead_share(out, real), 3 / 8)


@pytest.mark.slow
def test_looking_changes_nothing():
    model = FAMILIES["mha_swiglu_tied"]
    plain, _, _ = transformer.apply(weights(model), BATCH, model)
    seen, inside, _ = transformer.apply(weights(model), BATCH, model, look=True)
    np.testing.assert_array_equal(plain, seen)
    assert {x.shape for x in inside.values()} == {(model.num_layers,)}
