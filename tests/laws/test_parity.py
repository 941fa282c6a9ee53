"""THE PARITY LAW: the sampler's log-probs, of the distribution actually sampled, are
the trainer's, so that the first policy ratio is 1; and the sampler draws from it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.inference import decode, sampling
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.model.config import TransformerConfig
from genlm.train import losses
from tests.laws.families import (
    BASE,
    FAMILIES,
    alone,
    assert_agree,
    every_family,
    hidden,
    inputs,
    logits,
    weights,
)

STOP = 7
NEVER = BASE.vocab_size  # no token is that
MAX_TOKENS = 24
LENGTH = 56  # of prompt and answer
PLAIN = SamplingConfig()
GREEDY = SamplingConfig(temperature=0)
TRUNCATED = SamplingConfig(temperature=1.3, top_k=20, top_p=0.8)


def _prompts(*lengths: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(8, BASE.vocab_size, n).tolist() for n in lengths]


PROMPTS = _prompts(5, 20, 30)


def _generate(
    config: TransformerConfig,
    prompts: list[list[int]] = PROMPTS,
    sampling: SamplingConfig = PLAIN,
    params: Any = None,
    **options: Any,
) -> list[Answer]:
    settings = {"stop_ids": (STOP, NEVER), "max_tokens": MAX_TOKENS, "pad": 0} | options
    return decode.generate(
        weights(config) if params is None else params,
        config,
        prompts,
        sampling=sampling,
        **settings,
    )


def _whole(answer: Answer, stop: int = STOP) -> list[int]:
    """The ids of an answer, one for each of its log-probs."""
    return answer.tokens + ([stop] if answer.stop_reason == "stop" else [])


def _rows(answers: list[Answer]) -> dict[str, np.ndarray]:
    texts = [p + _whole(a) for p, a in zip(PROMPTS, answers, strict=True)]
    return alone(texts, LENGTH)


def _of_answers(values_BT: Any, answers: list[Answer]) -> np.ndarray:
    """What stands where the tokens of the answers are predicted, row after row."""
    starts = [len(p) - 1 for p in PROMPTS]
    return np.concatenate(
        [
            np.asarray(values_T)[start : start + len(answer.logprobs)]
            for values_T, start, answer in zip(values_BT, starts, answers, strict=True)
        ]
    )


@every_family
def test_what_the_sampler_says_is_what_the_trainer_computes(config):
    answers = _generate(config)
    batch, params = _rows(answers), weights(config)
    trainer_BT = losses.token_logprobs(
        params, hidden(params, inputs(batch), config), batch["targets"], config
    )
    said = np.concatenate([a.logprobs for a in answers])
    computed = _of_answers(trainer_BT, answers)
    assert_agree(said, computed, config)
    assert_agree(np.exp(computed - said), np.ones_like(said), config)


@pytest.mark.parametrize(
    "family, settings",
    [
        ("gqa", TRUNCATED),
        ("gqa", GREEDY),
        # where rounding may move a token over the edge of what is kept, none is cut
        ("bfloat16", SamplingConfig(temperature=0.7)),
    ],
)
def test_the_sampler_says_what_it_drew_from(family: str, settings: SamplingConfig):
    config = FAMILIES[family]
    answers = _generate(config, sampling=settings)
    batch = _rows(answers)
    logprobs_BTV = sampling.logprobs(logits(config, batch), settings)
    logprobs_BT = jnp.take_along_axis(
        logprobs_BTV, jnp.asarray(batch["targets"])[..., None], axis=-1
    )[..., 0]
    said = np.concatenate([a.logprobs for a in answers])
    assert_agree(said, _of_answers(logprobs_BT, answers), config)


def test_temperature_0_is_the_likeliest():
    config = FAMILIES["gqa"]
    answers = _generate(config, sampling=GREEDY)
    likeliest_BT = jnp.argmax(logits(config, _rows(answers)), axis=-1)
    drawn = [token for answer in answers for token in _whole(answer)]
    assert drawn == _of_answers(likeliest_BT, answers).tolist()
    assert all(set(a.logprobs) == {0.0} for a in answers)


def test_stop_halts_its_own_row_and_is_said():
    free = _generate(BASE, stop_ids=(NEVER, NEVER))
    assert [len(a.tokens) for a in free] == [MAX_TOKENS] * len(PROMPTS)
    assert all(a.stop_reason == "length" for a in free)
    for stop in (free[0].tokens[0], free[1].tokens[5], free[2].tokens[-1]):
        for before, after in zip(
            free, _generate(BASE, stop_ids=(stop, NEVER)), strict=True
        ):
            stopped = stop in before.tokens
            length = before.tokens.index(stop) if stopped else MAX_TOKENS
            assert after.tokens == before.tokens[:length]
            assert after.stop_reason == ("stop" if stopped else "length")
            assert after.logprobs == before.logprobs[: length + stopped]


def test_any_of_several_stops_halts():
    free = _generate(BASE, stop_ids=(NEVER, NEVER))
    stops = (free[0].tokens[3], free[1].tokens[9])
    for before, after in zip(free[:2], _generate(BASE, stop_ids=stops)[:2]):
        length = min(before.tokens.index(s) for s in stops if s in before.tokens)
        assert after.tokens == before.tokens[:length]
        assert after.stop_reason == "stop" and len(after.logprobs) == length + 1


def test_an_answer_depends_on_its_seed_and_place_and_not_on_its_neighbours():
    answer = _generate(BASE, seed=3)[1]
    _, prompt, _ = PROMPTS
    for others in (_prompts(9, 28, seed=1), _prompts(40, 2, seed=2)):
        again = _generate(BASE, [others[0], prompt, others[1]], seed=3)[1]
        assert (again.tokens, again.stop_reason) == (answer.tokens, answer.stop_reason)
        np.testing.assert_allclose(again.logprobs, answer.logprobs, atol=1e-4)
    assert _generate(BASE, seed=3)[1] == answer
    assert _generate(BASE, seed=4)[1].tokens != answer.tokens


def test_the_same_prompt_in_other_places_is_answered_otherwise():
    answers = _generate(BASE, [PROMPTS[1]] * 3)
    assert len({tuple(a.tokens) for a in answers}) == 3


def test_each_turn_draws_anew():
    flat = jax.tree.map(jnp.zeros_like, weights(BASE))  # each token is as likely
    answers = _generate(BASE, params=flat, stop_ids=(NEVER, NEVER))
    assert all(len(set(a.tokens)) > MAX_TOKENS / 2 for a in answers)


@pytest.mark.parametrize("wrong", [{"prompts": [[1], []]}, {"max_tokens": 0}])
def test_what_cannot_be_answered_is_said(wrong):
    with pytest.raises(UserError):
        _generate(BASE, **wrong)


# A toy distribution with probabilities in the order of none, and what is kept of it.
SHARES = np.asarray([0.05, 0.30, 0.02, 0.25, 0.10, 0.20, 0.08])
KEPT = {
    "all": (SamplingConfig(), range(7)),
    "cool": (SamplingConfig(temperature=0.5), range(7)),
    "top_k": (SamplingConfig(top_k=3), (1, 3, 5)),
    "top_k of more than there are": (SamplingConfig(top_k=99), range(7)),
    "top_p, past 0.55": (SamplingConfig(top_p=0.56), (1, 3, 5)),
    "top_p, short of 0.55": (SamplingConfig(top_p=0.54), (1, 3)),
    "top_p of almost nothing": (SamplingConfig(top_p=1e-6), (1,)),
    "top_p of what top_k left": (SamplingConfig(top_k=3, top_p=0.7), (1, 3)),
    "top_p after the temperature": (SamplingConfig(temperature=0.5, top_p=0.6), (1, 3)),
    "greedy": (GREEDY, (1,)),
}


def _expected(settings: SamplingConfig, kept) -> np.ndarray:
    """The shares at the temperature, of the kept tokens alone."""
    shares = np.zeros_like(SHARES)
    kept = list(kept)
    shares[kept] = SHARES[kept] ** (1 / (settings.temperature or 1))
    return shares / shares.sum()


@pytest.mark.parametrize("settings, kept", KEPT.values(), ids=KEPT.keys())
def test_tokens_are_drawn_as_often_as_their_log_probs_say(settings, kept):
    draws, V = 20_000, len(SHARES)
    logits_BV = jnp.broadcast_to(jnp.log(SHARES) + 3, (draws, V))
    keys_B = jax.random.split(jax.random.PRNGKey(0), draws)
    ids_B, logprobs_B = jax.jit(sampling.sample, static_argnums=2)(
        logits_BV, keys_B, settings
    )
    expected = _expected(settings, kept)
    said = np.exp(sampling.logprobs(logits_BV[:1], settings)[0])
    np.testing.assert_allclose(said, expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(logprobs_B), expected[ids_B], atol=1e-6)
    counts = np.bincount(ids_B, minlength=V)
    assert set(np.flatnonzero(counts)) <= set(kept)
    due = draws * expected[list(kept)]
    assert np.sum((counts[list(kept)] - due) ** 2 / due) < 40  # chi-square: p < 1e-6
