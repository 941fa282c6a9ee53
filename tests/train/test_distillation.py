"""Distillation's loss beside numbers worked out from probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import specs
from genlm.train.distillation import DistillConfig, make_distill_loss

STUDENT = TransformerConfig(11, 8, 1, 8, 1, 1, 8, 16)
TEACHER = TransformerConfig(11, 8, 2, 16, 2, 1, 8, 32)
BATCH = {
    "tokens": jnp.asarray([[1, 2, 3, 4]]),
    "targets": jnp.asarray([[2, 3, 4, 5]]),
    "weights": jnp.asarray([[0.0, 1.0, 1.0, 0.0]]),
    "segments": jnp.ones((1, 4), jnp.int32),
    "positions": jnp.arange(4)[None],
}


def params(config: TransformerConfig, seed: int):
    drawn = specs.initialize(transformer.param_specs(config), jax.random.PRNGKey(seed))
    return jax.tree.map(lambda x: 20 * x, drawn)  # so that they are far from alike


def probabilities(of, config: TransformerConfig, temperature: float) -> np.ndarray:
    hidden_BTD, _, _ = transformer.apply(of, BATCH, config)
    logits_BTV = transformer.unembed(of, hidden_BTD, config)
    return np.asarray(jax.nn.softmax(logits_BTV / temperature), np.float64)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("share, temperature", [(1.0, 1.0), (0.7, 2.0)])
def test_by_hand(direction: str, share: float, temperature: float):
    ours, theirs = params(STUDENT, 0), params(TEACHER, 1)
    config = DistillConfig(direction, share, temperature)
    loss, sums = make_distill_loss(STUDENT, TEACHER, config)(ours, theirs, BATCH, None)
    p, q = (
        probabilities(*each, temperature)[0, 1:3]
        for each in ((theirs, TEACHER), (ours, STUDENT))
    )
    if direction == "reverse":
        p, q = q, p
    kl = float(np.sum(p * np.log(p / q)))
    plain = probabilities(ours, STUDENT, 1.0)[0]
    nats = -np.log(plain[1, 3]) - np.log(plain[2, 4])
    assert np.isclose(sums["kl"], kl, rtol=1e-4) and sums["weight"] == 2
    assert np.isclose(sums["nats"], nats, rtol=1e-5)
    expected = share * temperature**2 * kl + (1 - share) * nats
    assert np.isclose(loss, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    same = params(STUDENT, 0)
    for direction in ("forward", "reverse"):
        loss = make_distill_loss(STUDENT, STUDENT, DistillConfig(direction, 1.0, 2.0))
        gradients = jax.grad(lambda p: loss(p, same, BATCH, None)[0])(same)
        assert abs(float(loss(same, same, BATCH, None)[0])) < 1e-5
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients)) < 1e-4


@pytest.mark.slow
def test_the_teacher_gets_no_gradient():
    loss = make_distill_loss(STUDENT, TEACHER, DistillConfig("forward", 1.0, 1.0))
    ours, theirs = params(STUDENT, 0), params(TEACHER, 1)
    gradients = jax.grad(lambda t: loss(ours, t, BATCH, None)[0])(theirs)
    assert not any(np.asarray(g).any() for g in jax.tree.leaves(gradients))
