"""Rollouts: what a policy drew, as a batch, and whether the trainer sees it alike."""

from typing import Any

import jax
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.model import transformer
from genlm.posttrain import groups, policy, rollout
from tests.laws.families import BASE, FAMILIES, weights

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
STOP, PAD = 2, 0


def slow(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


def _drawn(model, params, sampling=SamplingConfig(1.0), round_=0):
    return rollout.roll_out(
        params,
        model,
        PROMPTS,
        count=4,
        slots=16,
        max_tokens=6,
        sampling=sampling,
        stop_ids=(STOP,),
        pad=PAD,
        seed=0,
        round_=round_,
    )


def test_a_batch_by_hand():
    """An answer that stopped has its STOP as a target; one cut off has none."""
    answers = [Answer([7, 8], [-1, -2, -3], "stop", STOP), Answer([9], [-4], "length")]
    batch = rollout.drawn(answers, 4, PAD)
    np.testing.assert_array_equal(batch["targets"], [[7, 8, STOP, 0], [9, 0, 0, 0]])
    np.testing.assert_array_equal(batch["weights"], [[1, 1, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(batch["logprobs"], [[-1, -2, -3, 0], [-4, 0, 0, 0]])


def test_what_is_folded_by_prompts_is_the_same_unfolded():
    drawn = _drawn(BASE, weights(BASE))
    batch = groups.folded(drawn.batch)
    assert batch["targets"].shape == (3, 4, 6)
    again = groups.flat(batch)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, drawn.batch))
    part = groups.first(drawn.batch, 2)
    np.testing.assert_array_equal(part["targets"], drawn.batch["targets"][:8])
    assert len(part["prompts"]["tokens"]) == 2


def _as_rows(drawn) -> dict[str, np.ndarray]:
    """Every answer after its prompt, in a row of its own."""
    rows = [
        [*PROMPTS[number // 4], *answer.tokens]
        for number, answer in enumerate(drawn.answers)
    ]
    tokens = np.full((len(rows), 11), PAD)
    segments = np.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(row)], segments[number, : len(row)] = row, 1
    positions = np.tile(np.arange(11), (len(rows), 1)) * segments
    return {"tokens": tokens, "segments": segments, "positions": positions}


@pytest.mark.parametrize("name", ["gqa", *map(slow, ("gemma2", "gpt2"))])
def test_a_prompt_read_once_is_a_prompt_in_every_row(name: str):
    """Hidden states and gradients of a group are those of a row an answer."""
    model = FAMILIES[name]
    params = weights(model)
    drawn = _drawn(model, params)
    rows, real = _as_rows(drawn), drawn.batch["weights"] > 0
    first = [len(PROMPTS[number // 4]) - 1 for number in range(12)]
    at = np.minimum(np.asarray(first)[:, None] + np.arange(6), 10)
    pull = np.random.default_rng(0).normal(size=(*real.shape, model.model_dim))
    pull = pull * real[..., None]

    def of_groups(params):
        hidden_BAD = groups.hidden(params, drawn.batch, model)
        return (hidden_BAD * pull).sum(), hidden_BAD

    def of_rows(params):
        hidden_BTD, _, _ = transformer.apply(params, rows, model)
        hidden_BAD = hidden_BTD[np.arange(12)[:, None], at]
        return (hidden_BAD * pull).sum(), hidden_BAD

    (slopes, found), (expected_slopes, expected) = (
        jax.jit(jax.grad(look, has_aux=True))(params) for look in (of_groups, of_rows)
    )
    np.testing.assert_allclose(found[real], expected[real], atol=2e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, (slopes, expected_slopes))):
        np.testing.assert_allclose(ours, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", ["gqa", "bfloat16", *map(slow, ("gemma2", "gpt2"))])
@pytest.mark.parametrize("temperature", [slow(1.0), 0.7])
def test_the_sampler_and_the_trainer_agree(name: str, temperature: float):
    """The parity law: of the distribution that is drawn from, at its temperature."""
    model, sampling = FAMILIES[name], SamplingConfig(temperature)
    params = weights(model)
    drawn = _drawn(model, params, sampling)
    found = policy.make_scorer(model, sampling)(params, drawn.batch)
    sampled, real = drawn.batch["logprobs"], drawn.batch["weights"]
    rollout.check_parity(sampled, np.asarray(found), real, model.dtype)
    ratio = np.exp(np.asarray(found) - sampled)[real > 0]
    assert abs(ratio - 1).max() < (0.2 if model.dtype == "bfloat16" else 1e-3)


def test_another_temperature_is_refused():
    params = weights(BASE)
    drawn = _drawn(BASE, params, SamplingConfig(0.7))
    found = policy.make_scorer(BASE, SamplingConfig(1.0))(params, drawn.batch)
    with pytest.raises(UserError, match="not the trainer's"):
        rollout.check_parity(
            drawn.batch["logprobs"],
            np.asarray(found),
            drawn.batch["weights"],
            "float32",
        )


def test_a_round_is_a_function_of_its_number():
    params = weights(BASE)
    first, again, other = (_drawn(BASE, params, round_=n) for n in (0, 0, 1))
    assert first.answers == again.answers != other.answers
    assert len({tuple(a.tokens) for a in first.answers[:4]}) > 1  # each draws its own


@pytest.mark.parametrize(
    "changes, words", [({"temperature": 0.0}, "temperature"), ({}, "room for 4")]
)
def test_what_cannot_be_drawn(changes: dict, words: str):
    with pytest.raises(UserError, match=words):
        rollout.roll_out(
            weights(BASE),
            BASE,
            PROMPTS,
            count=2,
            slots=4,
            max_tokens=2,
            sampling=SamplingConfig(**changes),
            stop_ids=(STOP,),
            pad=PAD,
            seed=0,
            round_=0,
        )
