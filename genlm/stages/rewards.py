"""REWARDS: answers to prompts -> numbers, as a config names them.

Before: graders, which check an answer, and reward models, which were trained. After:
stages.experience. A reward is a weighted sum of all that are named.
"""

import dataclasses
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from genlm.data.prompts import Prompt
from genlm.errors import UserError
from genlm.evaluate import graders
from genlm.evaluate.graders import Grader, Scores
from genlm.interop import reward_model
from genlm.interop.run import find
from genlm.runs import lineage

MODEL = "model"  # the name of the grader that reward models are
# rewards [answers] of prompts, one for each answer, of the answers' texts, and whether
# each has stopped by itself
Reward = Callable[[Sequence[Prompt], Sequence[str], Sequence[bool]], Scores]


@dataclasses.dataclass(frozen=True)
class RewardSection:
    """graders: 'name:weight' each (docs/graders.md), or 'model:weight'.

    models: runs of the reward stage; of several the mean counts, less `doubt` times
      the standard deviation of what they say (arXiv:2310.02743).
    unfinished: the reward of an answer that has not stopped by itself; beside reward
      models, whose scores may be below 0, it has to be below too.
    run_code: let the grader 'code' run what was generated.
    """

    graders: tuple[str, ...]
    models: tuple[str, ...]
    doubt: float
    unfinished: float
    run_code: bool

    def __post_init__(self) -> None:
        weights = graders.parse(self.graders)
        more: Mapping[str, Any] = {MODEL: None} if self.models else {}
        graders.check(weights, self.run_code, more)
        if self.models and MODEL not in weights:
            raise UserError(
                "reward.models are named, and reward.graders has no 'model'"
            )
        if self.models and self.unfinished >= 0:
            raise UserError(
                f"reward.unfinished is {self.unfinished}, and a reward model's scores"
                " may be below 0, so that being cut off would pay: give one well below"
            )
        if self.doubt < 0:
            raise UserError("reward.doubt is below 0")

    def inputs(self) -> dict[str, Any]:
        """Lineage entries of the reward models."""
        found = {}
        for name in self.models:
            outputs = lineage.read(find(Path(name))).get("outputs")
            found[name] = {"sha256": lineage.digest(outputs)}
        return found


def of(section: RewardSection) -> Reward:
    """The reward that a config names."""
    weights = graders.parse(section.graders)
    more = {MODEL: _of_models(section)} if section.models else {}

    def reward(
        prompts: Sequence[Prompt], texts: Sequence[str], stopped: Sequence[bool]
    ) -> Scores:
        rows = [{**each.fields, "messages": each.messages} for each in prompts]
        found = graders.grade_all(
            weights, texts, rows, run_code=section.run_code, more=more
        )
        total = np.where(stopped, found.total, section.unfinished)
        return found._replace(total=total.astype(np.float32))

    return reward


def _of_models(section: RewardSection) -> Grader:
    """The grader that reward models are together."""
    models = [reward_model.open_model(Path(name)) for name in section.models]

    def grade(texts: Sequence[str], rows: Sequence[Any]) -> list[float]:
        asked = [
            [*row["messages"], {"role": "assistant", "content": text}]
            for row, text in zip(rows, texts)
        ]
        said_MB = np.stack([model.scores(asked) for model in models])
        return list(said_MB.mean(0) - section.doubt * said_MB.std(0))

    return grade
