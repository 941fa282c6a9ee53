"""Rollouts: what a policy drew, as rows, and whether the trainer sees it alike."""

import numpy as np
import pytest

from genlm.errors import UserError
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.posttrain import policy, rollout
from tests.laws.families import BASE, FAMILIES, weights

PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
STOP, PAD = 2, 0


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


def test_rows_by_hand():
    """An answer that stopped has its STOP as a target; one cut off has none."""
    answers = [Answer([7, 8], [-1, -2, -3], "stop", STOP), Answer([9], [-4], "length")]
    batch, sampled = rollout.rows([[1, 5], [1]], answers, 6, PAD)
    np.testing.assert_array_equal(
        batch["tokens"], [[1, 5, 7, 8, STOP, 0], [1, 9, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        batch["targets"], [[5, 7, 8, STOP, 0, 0], [9, 0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        batch["weights"], [[0, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        batch["segments"], [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(sampled, [[0, -1, -2, -3, 0, 0], [-4, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("name", ["gqa", "gemma2", "bfloat16", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_sampler_and_the_trainer_agree(name: str, temperature: float):
    """The parity law: of the distribution that is drawn from, at its temperature."""
    model, sampling = FAMILIES[name], SamplingConfig(temperature)
    params = weights(model)
    drawn = _drawn(model, params, sampling)
    found = policy.make_scorer(model, sampling)(params, drawn.batch)
    rollout.check_parity(
        drawn.sampled, np.asarray(found), drawn.batch["weights"], model.dtype
    )
    ratio = np.exp(np.asarray(found) - drawn.sampled)[drawn.batch["weights"] > 0]
    assert abs(ratio - 1).max() < (0.2 if model.dtype == "bfloat16" else 1e-3)


def test_another_temperature_is_refused():
    params = weights(BASE)
    drawn = _drawn(BASE, params, SamplingConfig(0.7))
    found = policy.make_scorer(BASE, SamplingConfig(1.0))(params, drawn.batch)
    with pytest.raises(UserError, match="not the trainer's"):
        rollout.check_parity(
            drawn.sampled, np.asarray(found), drawn.batch["weights"], "float32"
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
