"""ROLLOUTS: several answers to each prompt, drawn by the policy itself, as rows.

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

# how far the sampler's log-probabilities may be from the trainer's: the most of any
# token, and the mean of all
_BOUNDS = {"float32": (1e-4, 1e-4), "bfloat16": (float("inf"), 0.02)}


class Rollout(NamedTuple):
    """Answers to prompts, K of each side by side: answers[p * K + k]; and the batch of
    their rows, with the sampler's log-probabilities [B, T] in `sampled`."""

    answers: list[Answer]
    batch: dict[str, np.ndarray]
    sampled: np.ndarray


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
    repeated = [prompt for prompt in prompts for _ in range(count)]
    first = round_ * len(repeated)
    answers = decode.generate(
        params,
        config,
        repeated,
        max_tokens=max_tokens,
        stop_ids=stop_ids,
        pad=pad,
        sampling=sampling,
        seed=seed,
        places=range(first, first + len(repeated)),
        slots=slots,
    )
    batch, sampled = rows(repeated, answers, slots + max_tokens, pad)
    return Rollout(answers, batch, sampled)


def rows(
    prompts: Sequence[Sequence[int]], answers: Sequence[Answer], length: int, pad: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The batch of prompts with their answers, one a row of `length`, as data.batches
    has it: weights are 1 where an answer's token, or its STOP, is to be foretold; and
    sampled_BT, the log-probabilities that those were drawn with."""
    B = len(prompts)
    slots_BT = np.full((B, length + 1), pad, np.int32)
    weights_BT = np.zeros((B, length + 1), np.float32)
    sampled_BT = np.zeros((B, length + 1), np.float32)
    segments_BT = np.zeros((B, length + 1), np.int32)
    for row, (prompt, answer) in enumerate(zip(prompts, answers)):
        drawn = [*answer.tokens, *([] if answer.stop is None else [answer.stop])]
        first, last = len(prompt), len(prompt) + len(drawn)
        slots_BT[row, :first], slots_BT[row, first:last] = prompt, drawn
        weights_BT[row, first:last] = 1.0
        sampled_BT[row, first:last] = answer.logprobs
        segments_BT[row, :last] = 1
    positions_BT = np.where(segments_BT, np.arange(length + 1), 0).astype(np.int32)
    batch = {
        "tokens": slots_BT[:, :-1],
        "targets": slots_BT[:, 1:],
        "weights": weights_BT[:, 1:],
        "segments": segments_BT[:, :-1],
        "positions": positions_BT[:, :-1],
    }
    return batch, sampled_BT[:, 1:]


def check_parity(
    sampled_BT: np.ndarray, logprobs_BT: np.ndarray, weights_BT: np.ndarray, dtype: str
) -> float:
    """The mean distance of the sampler's log-probabilities from the trainer's.

    Raises:
      UserError: it is more than rounding in `dtype` explains, so that ratios of new and
        old probabilities would mean nothing.
    """
    apart = np.abs(sampled_BT - logprobs_BT)[weights_BT > 0]
    most, mean = _BOUNDS[dtype]
    if not (apart.max() <= most and apart.mean() <= mean):
        raise UserError(
            "the sampler's log-probabilities are not the trainer's: they differ by"
            f" {apart.mean():.2g} a token, {apart.max():.2g} at the most"
            f" (bounds {mean:g} and {most:g}); nothing was trained on"
        )
    return float(apart.mean())
