"""ROLLOUTS: several answers to each prompt, drawn by the policy itself, as a batch.

Before: prompts, and a policy's parameters. After: rewards, advantages, policy. The
answers come from the real decoder, with the log-probabilities that it drew them with;
`check_parity` holds those against what the trainer computes of the same tokens.
"""

from typing import Any, NamedTuple, Sequence

import numpy as np

from genlm.errors import UserError
from genlm.inference import decode
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.model.config import TransformerConfig
from genlm.posttrain import groups

# how far the sampler's log-probabilities may be from the trainer's: the most of any
# token, and the mean of all
_BOUNDS = {"float32": (1e-4, 1e-4), "bfloat16": (float("inf"), 0.02)}


class Rollout(NamedTuple):
    """Answers to prompts, K of each side by side: answers[p * K + k]; and their batch,
    as genlm.posttrain.groups has it."""

    answers: list[Answer]
    batch: dict[str, Any]


def roll_out(
    params: Any,
    config: TransformerConfig,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    slots: int,
    max_tokens: int,
    sampling: SamplingConfig,
    stop_ids: Sequence[int],
    pad: int,
    seed: int,
    round_: int,
) -> Rollout:
    """`count` answers to each of the prompts of a round: a function of the parameters,
    the prompts, the seed and the number of the round.

    Args:
      slots: the most tokens of a prompt, in any round.

    Raises:
      UserError: a prompt is longer, or the temperature is 0: then nothing is drawn.
    """
    if sampling.temperature == 0:
        raise UserError("a policy draws its answers: the temperature must be above 0")
    if (longest := max(map(len, prompts))) > slots:
        raise UserError(f"a prompt has {longest} tokens, and there is room for {slots}")
    B = len(prompts) * count
    answers = decode.generate(
        params,
        config,
        prompts,
        max_tokens=max_tokens,
        stop_ids=stop_ids,
        pad=pad,
        sampling=sampling,
        seed=seed,
        places=range(round_ * B, (round_ + 1) * B),
        slots=slots,
        count=count,
    )
    read = decode.pad_left(prompts, pad, slots)
    return Rollout(answers, {groups.PROMPTS: read, **drawn(answers, max_tokens, pad)})


def drawn(
    answers: Sequence[Answer], max_tokens: int, pad: int
) -> dict[str, np.ndarray]:
    """Arrays [B, max_tokens] of answers: `targets`, their tokens with the STOP that was
    met; `weights`, 1 where one is; and the `logprobs` that they were drawn with."""
    shape = (len(answers), max_tokens)
    targets_BA = np.full(shape, pad, np.int32)
    weights_BA, logprobs_BA = np.zeros((2, *shape), np.float32)
    for row, answer in enumerate(answers):
        ids = [*answer.tokens, *([] if answer.stop is None else [answer.stop])]
        targets_BA[row, : len(ids)] = ids
        weights_BA[row, : len(ids)] = 1.0
        logprobs_BA[row, : len(ids)] = answer.logprobs
    return {"targets": targets_BA, "weights": weights_BA, "logprobs": logprobs_BA}


def check_parity(
    sampled_BA: np.ndarray, logprobs_BA: np.ndarray, weights_BA: np.ndarray, dtype: str
) -> float:
    """The mean distance of the sampler's log-probabilities from the trainer's.

    Raises:
      UserError: it is more than rounding in `dtype` explains, so that ratios of new and
        old probabilities would mean nothing.
    """
    apart = np.abs(sampled_BA - logprobs_BA)[weights_BA > 0]
    most, mean = _BOUNDS[dtype]
    if not (apart.max() <= most and apart.mean() <= mean):
        raise UserError(
            "the sampler's log-probabilities are not the trainer's: they differ by"
            f" {apart.mean():.2g} a token, {apart.max():.2g} at the most"
            f" (bounds {mean:g} and {most:g}); nothing was trained on"
        )
    return float(apart.mean())
