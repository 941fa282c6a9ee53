"""REWARDS: answers to prompts -> numbers, as a config names them.

Before: graders, which compare an answer with what is right, and reward models, which
were trained. After: stages.experience. A reward is a weighted sum of those named.
"""

import dataclasses
from typing import Callable, Sequence

import numpy as np

from genlm.data.prompts import Prompt
from genlm.errors import UserError
from genlm.evaluate import graders

# rewards [answers] of prompts, one for each answer, and of the answers' texts
Reward = Callable[[Sequence[Prompt], Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class RewardSection:
    """graders: 'name:weight' each; unfinished: the reward of an answer that has not
    stopped by itself, whatever it says."""

    graders: tuple[str, ...]
    unfinished: float

    def __post_init__(self) -> None:
        if not self.graders:
            raise UserError("reward.graders names none")
        self.weights()

    def weights(self) -> dict[str, float]:
        """The weight of each grader."""
        found = {}
        for spelled in self.graders:
            name, _, weight = spelled.partition(":")
            if name not in graders.GRADERS:
                known = ", ".join(graders.GRADERS)
                raise UserError(f"reward.graders: no grader {name!r}; {known}")
            try:
                found[name] = float(weight or 1)
            except ValueError:
                raise UserError(
                    f"reward.graders {spelled!r}: {weight!r} is no number"
                ) from None
        return found


def of(section: RewardSection) -> Reward:
    """The reward that a config names."""
    weights = section.weights()

    def reward(prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
        found = np.zeros(len(texts), np.float32)
        for i, (prompt, text) in enumerate(zip(prompts, texts)):
            for name, weight in weights.items():
                found[i] += weight * graders.grade(name, text, [prompt.answer])
        return found

    return reward
