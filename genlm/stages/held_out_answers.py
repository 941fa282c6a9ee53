"""HELD-OUT ANSWERS: what a policy says to prompts that it does not learn from.

Before: stages.align, between two rounds. After: rows of metrics.jsonl (the mean reward)
and of samples.jsonl (a few answers). Answers are the likeliest.
"""

from typing import Any, Sequence

import numpy as np

from genlm.inference import decode
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.model.config import TransformerConfig
from genlm.stages.experience import Asked
from genlm.stages.rewards import Reward
from genlm.tokenizer.base import Tokenizer, answer_text

_SHOWN = 4


class HeldOut:
    """Answers to some of the held-out prompts, as far apart as can be.

    Args:
      max_rows: how many; 0: all. slots, max_tokens: as of the rollouts.
    """

    def __init__(
        self,
        model: TransformerConfig,
        tokenizer: Tokenizer,
        asked: Asked,
        reward: Reward,
        *,
        max_rows: int,
        batch_size: int,
        slots: int,
        max_tokens: int,
    ):
        count = len(asked.ids)
        rows = min(max_rows, count) or count
        some = np.linspace(0, count - 1, rows).astype(int)
        self._prompts = [asked.prompts[i] for i in some]
        self._ids = [asked.ids[i] for i in some]
        self._model, self._tokenizer, self._reward = model, tokenizer, reward
        self._size, self._slots, self._tokens = batch_size, slots, max_tokens

    def score(self, params: Any) -> dict[str, float]:
        """The mean reward, that of each grader, and how many stop by themselves."""
        answers = self._answers(params, self._ids)
        stopped = [answer.stop_reason == "stop" for answer in answers]
        found = self._reward(self._prompts, self._texts(answers), stopped)
        return {
            "valid_reward": float(found.total.mean()),
            **{f"valid_{k}": float(np.mean(v)) for k, v in found.parts.items()},
            "valid_stopped": float(np.mean(stopped)),
        }

    def show(self, params: Any) -> dict[str, Any]:
        """{'samples': the first few}."""
        answers = self._answers(params, self._ids[:_SHOWN])
        return {
            "samples": [
                {
                    "prompt": prompt.messages[-1]["content"],
                    "text": text,
                    "stop_reason": answer.stop_reason,
                }
                for prompt, text, answer in zip(
                    self._prompts, self._texts(answers), answers
                )
            ]
        }

    def _texts(self, answers: Sequence[Answer]) -> list[str]:
        both = zip(self._ids, answers)
        return [answer_text(self._tokenizer, ids, a.tokens) for ids, a in both]

    def _answers(self, params: Any, ids: Sequence[Sequence[int]]) -> list[Answer]:
        """In batches of one size, so that one program answers them all."""
        special, found = self._tokenizer.special, []
        padded = [*ids, *[ids[-1]] * (-len(ids) % self._size)]
        for start in range(0, len(padded), self._size):
            found += decode.generate(
                params,
                self._model,
                padded[start : start + self._size],
                max_tokens=self._tokens,
                stop_ids=special.all_stops,
                pad=special.pad,
                sampling=SamplingConfig(temperature=0.0),
                slots=self._slots,
            )
        return found[: len(ids)]
