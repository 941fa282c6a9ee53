"""Losses by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.model import transformer
from genlm.train import losses
from tests.laws.families import BASE, weights

BATCH = {
    "tokens": np.asarray([[1, 2, 3, 4], [5, 6, 7, 0]], np.int32),
    "targets": np.asarray([[2, 3, 4, 5], [6, 7, 0, 0]], np.int32),
    "weights": np.asarray([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32),
    "segments": np.asarray([[1, 1, 1, 1], [1, 1, 1, 0]], np.int32),
    "positions": np.asarray([[0, 1, 2, 3], [0, 1, 2, 0]], np.int32),
}


@pytest.mark.parametrize("vocab_chunk", [0, 7])
def test_z_loss_is_the_square_of_the_log_sum(vocab_chunk: int):
    config = dataclasses.replace(BASE, dtype="float32")
    params = jax.tree.map(lambda x: 3 * x, weights(config))
    plain, sums = losses.make_next_token_loss(config, vocab_chunk)(
        params, None, BATCH, None
    )
    with_z, z_sums = losses.make_next_token_loss(
        config, vocab_chunk, losses.Shares(0.01)
    )(params, None, BATCH, None)
    hidden_BTD, _, _ = transformer.apply(params, BATCH, config)
    logits_BTV = np.asarray(transformer.unembed(params, hidden_BTD, config))
    total_BT = np.log(np.exp(logits_BTV.astype(np.float64)).sum(-1))
    expected = 0.01 * (total_BT**2 * BATCH["weights"]).sum()
    np.testing.assert_allclose(with_z - plain, expected, rtol=1e-4)
    np.testing.assert_allclose(z_sums["z_loss"], expected, rtol=1e-4)
    assert z_sums["loss"] == sums["loss"] == plain


def test_a_large_vocabulary_goes_in_chunks_by_itself():
    V, D = losses.WHOLE_VOCAB + 100, 8
    config = dataclasses.replace(BASE, vocab_size=V, model_dim=D)

    def logprobs(w_VD, hidden_BTD):
        targets_BT = jnp.zeros((2, 3), jnp.int32)
        return losses.token_logprobs(
            {"embedding": w_VD}, hidden_BTD, targets_BT, config
        )

    shapes = jnp.zeros((V, D)), jnp.zeros((2, 3, D))
    assert f"2,3,{V}" not in str(jax.make_jaxpr(logprobs)(*shapes))
    few = jnp.zeros((1000, D)), jnp.zeros((2, 3, D))
    assert "6,1000]" in str(jax.make_jaxpr(logprobs)(*few))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_only_what_is_trained_needs_logits(share: float):
    """The loss and its gradient are those of all tokens; no piece is lost."""
    rng = np.random.default_rng(0)
    params = weights(BASE)
    ids = rng.integers(0, BASE.vocab_size, (3, 51)).astype(np.int32)
    batch = {
        "tokens": ids[:, :-1],
        "targets": ids[:, 1:],
        "weights": (rng.random((3, 50)) < share).astype(np.float32),
        "segments": np.ones((3, 50), np.int32),
        "positions": np.tile(np.arange(50, dtype=np.int32), (3, 1)),
    }
    assert ids[:, 1:].size % 64  # no whole number of pieces
    found = [
        jax.value_and_grad(
            losses.make_next_token_loss(
                BASE, shares=losses.Shares(z=0.1), skip_untrained=skip
            ),
            has_aux=True,
        )(params, None, batch, None)
        for skip in (False, True)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *found
    )
