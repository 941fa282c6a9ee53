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
