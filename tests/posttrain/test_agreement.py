"""Losses and their gradients are those of TRL on the same log-probabilities.

tests/golden/make_trl.py wrote what TRL's own trainers made of them. All numbers agree
to 1e-5, relative to theirs or, of numbers below 1, absolute. What TRL has otherwise is
told where it is compared, and is a known factor or a term of its own.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.posttrain import advantages, dpo, policy
from genlm.posttrain.dpo import DpoConfig
from genlm.posttrain.policy import PolicyConfig
from tests.posttrain.world import RLOO

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "trl.json").read_text("utf-8")
)
PLAIN = {"beta": 0.1, "smoothing": 0.0, "gamma": 0.0, "good": 1.0, "bad": 1.0}
GRPO = RLOO | {"average": "sequence", "kl": "none", "beta": 0.0, "estimator": "k3"}
AVERAGES = {
    "grpo": "sequence",
    "bnpo": "token",
    "dapo": "token",
    "dr_grpo": "sum",
    "luspo": "sum",
}


def _same(found: Any, theirs: Any) -> None:
    theirs = np.asarray(theirs)
    apart = np.abs(np.asarray(found) - theirs)
    assert np.all(apart <= 1e-5 * np.maximum(1, np.abs(theirs))), apart.max()


def _name(case: Any) -> str:
    settings = "-".join(f"{k}={v}" for k, v in case["settings"].items())
    return f"{case.get('kind', 'kto')}-{settings}"


def _sums(better: list, worse: list) -> jax.Array:
    """log p [B, 2] of the answers of each row."""
    return jnp.asarray([[sum(b), sum(w)] for b, w in zip(better, worse)])


def _paired(pairs: dict, case: dict) -> tuple[jax.Array, jax.Array]:
    """The mean loss of a batch, and its gradient [B, 2]."""
    config = DpoConfig(case["kind"], **(PLAIN | case["settings"]))
    reference_BK = _sums(pairs["reference_better"], pairs["reference_worse"])
    lengths_BK = jnp.asarray(
        [[len(b), len(w)] for b, w in zip(pairs["better"], pairs["worse"])], jnp.float32
    )

    def loss(logps_BK):
        return jnp.mean(dpo.losses_of(logps_BK, reference_BK, lengths_BK, config)[0])

    return jax.value_and_grad(loss)(_sums(pairs["better"], pairs["worse"]))


def _cases(kinds: tuple[str, ...]) -> list:
    return [
        pytest.param(pairs, case, id=f"{number}-{_name(case)}")
        for number, pairs in enumerate(GOLDEN["paired"])
        for case in pairs["found"]
        if case["kind"] in kinds
    ]


@pytest.mark.parametrize("pairs, case", _cases(("dpo", "ipo", "simpo")))
def test_losses_of_two_answers(pairs: dict, case: dict):
    """Nothing differs: IPO is of means over tokens there too (with its authors' word
    for it, as TRL notes), SimPO's gamma is the margin itself.

    Smoothing is cDPO's, which TRL has in its loss 'aot' of a single pair; its loss
    'sigmoid' has none, and its 'robust' is another paper's (arXiv:2403.00409)."""
    loss, slopes_BK = _paired(pairs, case)
    _same(loss, case["loss"])
    _same(slopes_BK.T.ravel(), case["slopes"])


@pytest.mark.parametrize("pairs, case", _cases(("orpo",)))
def test_the_odds_of_two_answers(pairs: dict, case: dict):
    """TRL takes the likelihood of ORPO from the prompt and the better answer, a mean
    over all tokens of the batch; here it is the answer's alone, of which the paper's
    equation 6 is, and a mean of rows, as all its losses are. What the odds add is the
    same; and so is everything where prompts have one token, of which nothing is
    foretold, and the better answers one length."""
    loss, slopes_BK = _paired(pairs, case)
    own = -np.mean([np.mean(answer) for answer in pairs["better"]])
    told = [p[1:] + b for p, b in zip(pairs["prompt"], pairs["better"])]
    _same(-np.mean(np.concatenate(told)), case["nll"])
    _same(loss - own, case["loss"] - case["nll"])
    _same(slopes_BK[:, 1], case["slopes"][len(told) :])
    if max(map(len, pairs["prompt"])) == 1:
        _same(loss, case["loss"])
        _same(slopes_BK.T.ravel(), case["slopes"])


@pytest.mark.parametrize("case", GOLDEN["unpaired"], ids=_name)
def test_good_answers_and_bad_ones(case: dict):
    """A row of one answer each, as TRL has them, and what the policy has gone from the
    reference by another. Both take the mean over all answers, good and bad, each with
    its weight, and let no gradient through the divergence. (Here a row that has both
    counts as one, so that its two answers weigh half each.) In one case the policy is
    nearer than the reference, which counts as 0."""
    assert {each["far"] > 0 for each in GOLDEN["unpaired"]} == {True, False}
    config = DpoConfig("kto", **(PLAIN | case["settings"]))
    ranks_BK = jnp.asarray([[1 if good else 2, 0] for good in case["labels"]])
    reference_BK = _sums(case["reference_answers"], case["reference_others"])

    def loss_of(logps_BK):
        return jnp.mean(dpo.kto(logps_BK - reference_BK, ranks_BK, config)[0])

    logps_BK = _sums(case["answers"], case["others"])
    loss, slopes_BK = jax.value_and_grad(loss_of)(logps_BK)
    _same(loss, case["loss"])
    _same(slopes_BK[:, 0], case["slopes"])
    _same(slopes_BK[:, 1], np.zeros(len(case["labels"])))


@pytest.mark.parametrize(
    "group, case",
    [
        pytest.param(group, case, id=f"{number}-{_name(case)[4:]}")
        for number, group in enumerate(GOLDEN["groups"])
        for case in group["found"]
    ],
)
def test_clipped_losses(group: dict, case: dict, monkeypatch: pytest.MonkeyPatch):
    """Every average of TRL's, of ratios of tokens and of sequences, with and without
    the divergence (k3) and a higher bound. What Dr. GRPO divides by besides, TRL's
    max_completion_length, is left out here, a constant that the learning rate holds; so
    'sum' is TRL's 'luspo' as it stands."""
    theirs = case["settings"]
    config = PolicyConfig(
        **GRPO
        | {
            "ratio": theirs.get("importance_sampling_level", "token"),
            "average": AVERAGES[theirs["loss_type"]],
            "clip_high": theirs.get("epsilon_high", 0.2),
            "kl": "loss" if "beta" in theirs else "none",
            "beta": theirs.get("beta", 0.0),
        }
    )
    # of two tokens, of which the first was drawn
    monkeypatch.setattr(
        policy,
        "distribution",
        lambda logps_BT, *_: jnp.stack([logps_BT, _rest(logps_BT)], axis=-1),
    )
    weights_BT = _rows([[1.0] * len(row) for row in group["new"]], 0.0)
    batch = {
        "weights": weights_BT,
        "targets": jnp.zeros(weights_BT.shape, jnp.int32),
        "logprobs": _rows(group["old"]),
        "reference": _rows(group["reference"]),
        "advantages": jnp.asarray(group["advantages"])[:, None] * weights_BT,
    }

    def loss_of(logps_BT):
        total, sums = policy.loss_of_hidden(logps_BT, None, batch, None, None, config)
        return total / sums["weight"]

    loss, slopes_BT = jax.value_and_grad(loss_of)(_rows(group["new"]))
    factor = GOLDEN["max_length"] if theirs["loss_type"] == "dr_grpo" else 1.0
    _same(loss / factor, case["loss"])
    _same(slopes_BT / factor, _rows(case["slopes"], 0.0))


def _rows(rows: list, empty: float = -1.0) -> jax.Array:
    """Numbers [B, T] of rows that have fewer."""
    longest = max(map(len, rows))
    return jnp.asarray([row + [empty] * (longest - len(row)) for row in rows])


def _rest(logps: jax.Array) -> jax.Array:
    return jnp.log1p(-jnp.exp(logps))


@pytest.mark.parametrize(
    "case",
    GOLDEN["advantages"],
    ids=lambda case: f"{case['scale']}-{len(case['rewards'][0])}",
)
def test_advantages(case: dict):
    """TRL divides by the standard deviation of a sample (K - 1) and 1e-4; here it is
    that of the rewards at hand (K) and 1e-6, so that theirs are sqrt((K - 1) / K) of
    ours but for the small terms. Where all are scaled, both take the deviation of all
    rewards as they are, though each group has a mean of its own taken off."""
    rewards_PK = np.asarray(case["rewards"], np.float32)
    found = advantages.of_groups(jnp.asarray(rewards_PK), "group_mean", case["scale"])
    if case["scale"] != "none":
        axis = 1 if case["scale"] == "group" else None
        ours, theirs = (
            rewards_PK.std(axis=axis, ddof=ddof, keepdims=True) + small
            for ddof, small in ((0, 1e-6), (1, 1e-4))
        )
        found = found * ours / theirs
    _same(found, case["advantages"])
