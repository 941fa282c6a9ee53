"""EXPERIENCE: prompts of a round -> the batch that a policy is trained on.

Before: numbers of prompts, a function of (seed, round) alone, and the state at the
round's beginning. After: the round's train step. The policy answers, the answers get
rewards, and both are written as one batch; everything is a function of the state, the
prompts and the seed, so that a round that was cut off is drawn again as it was.
"""

import dataclasses
import itertools
import sys
from typing import Any, Iterator, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genlm.data.plan import Plan
from genlm.data.prompts import Prompt
from genlm.errors import UserError
from genlm.evaluate.graders import Scores
from genlm.inference.sampling import SamplingConfig
from genlm.parallel import hosts, sharding
from genlm.posttrain import critic, groups, policy, rollout
from genlm.posttrain.critic import CriticConfig
from genlm.posttrain.online import OnlineConfig
from genlm.posttrain.policy import PolicyConfig
from genlm.posttrain.rollout import Rollout
from genlm.stages.adaptation import Adaptation
from genlm.stages.rewards import Reward
from genlm.tokenizer.base import Tokenizer, answer_text
from genlm.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """answers: to each prompt; slots: the most tokens of a prompt (longer ones are left
    out); epochs, minibatches: how often a round's answers are trained on, in how many
    parts."""

    answers: int
    slots: int
    max_tokens: int
    temperature: float
    epochs: int
    minibatches: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise UserError(f"rollout.{field.name} is not positive")
        if self.slots & (self.slots - 1) or self.slots < 16:
            raise UserError("rollout.slots is no power of two from 16 up")

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(self.temperature)


class Numbers:
    """Which prompts are asked in each round: shuffled, epoch after epoch."""

    def __init__(self, count: int, plan: Plan, seed: int):
        import grain

        self._plan = plan
        self._order = grain.MapDataset.range(count).shuffle(seed=seed).repeat()

    def since(self, round_: int) -> Iterator[dict[str, np.ndarray]]:
        """{"numbers": [P, 1]} of this round, and of those after it."""
        for each in itertools.count(round_):
            places = self._plan.part(each, 0, 1)
            numbers = [[int(self._order[place])] for place in places]
            yield {"numbers": np.asarray(numbers, np.int32)}


class Asked(NamedTuple):
    """What may be asked: prompts, and the ids of each."""

    prompts: Sequence[Prompt]
    ids: Sequence[Sequence[int]]


class Experience:
    """Called with the state and the numbers of a round's prompts."""

    def __init__(
        self,
        adapted: Adaptation,
        tokenizer: Tokenizer,
        asked: Asked,
        reward: Reward,
        config: RolloutConfig,
        policy_config: PolicyConfig | OnlineConfig,
        reference: Any,
        seed: int,
        mesh: jax.sharding.Mesh,
        critic_config: CriticConfig | None = None,
    ):
        self._adapted, self._tokenizer, self._asked = adapted, tokenizer, asked
        self._reward = reward
        self._config, self._policy, self._critic = config, policy_config, critic_config
        self._reference, self._seed, self._mesh = reference, seed, mesh
        model = adapted.model.without_chance
        self._score = policy.make_scorer(model, config.sampling)
        self._values = critic.make_reader(model)

    def __call__(self, state: TrainState, batch: Any) -> tuple[Any, dict[str, float]]:
        numbers = hosts.fetch(batch["numbers"])[:, 0].tolist()
        whole = self._adapted.model_of(state.params, self._adapted.frozen)
        params = whole["model"] if self._critic else whole
        drawn = self._draw(params, numbers, int(state.step))
        scores = self._scores(numbers, drawn)
        apart = self._parity(params, drawn.batch)
        rows = sharding.global_batch(drawn.batch, self._mesh)
        rows["reference"] = rows["logprobs"]
        if self._reference is not None:
            rows["reference"] = self._score(self._reference, rows)
        rows |= self._worth(state, whole, rows, jnp.asarray(scores.total))
        return groups.folded(rows), self._said(scores, drawn, apart, int(state.step))

    def _worth(
        self, state: TrainState, whole: Any, rows: Any, rewards_B: jax.Array
    ) -> dict[str, jax.Array]:
        """What the loss reads besides: rewards of pairs, else advantages."""
        if isinstance(self._policy, OnlineConfig):
            return {"rewards": rewards_B}
        weights_BT = rows["weights"]
        beta = state.extra.get("beta", self._policy.beta)
        rewards_BT = policy.rewarded(self._policy, rows, rewards_B, beta)
        if self._critic is None:
            answers = self._config.answers
            found_BT = policy.of_groups(self._policy, rewards_BT, weights_BT, answers)
            return {"advantages": found_BT}
        values_BT = self._values(whole, rows)
        return critic.targets(self._critic, rewards_BT, values_BT, weights_BT)

    def _parity(self, params: Any, batch: Any) -> float:
        """How far the sampler is from the trainer, in the round's first group (on each
        device): what answers were drawn with is what ratios are held against."""
        part = groups.first(batch, sharding.ways(self._mesh, "batch"))
        placed = sharding.global_batch(part, self._mesh)
        logprobs_BT = hosts.fetch(self._score(params, placed))
        dtype = self._adapted.model.dtype
        return rollout.check_parity(
            part["logprobs"], logprobs_BT, part["weights"], dtype
        )

    def _draw(self, params: Any, numbers: list[int], round_: int) -> Rollout:
        special = self._tokenizer.special
        return rollout.roll_out(
            params,
            self._adapted.model.without_chance,
            [self._asked.ids[number] for number in numbers],
            count=self._config.answers,
            slots=self._config.slots,
            max_tokens=self._config.max_tokens,
            sampling=self._config.sampling,
            stop_ids=special.all_stops,
            pad=special.pad,
            seed=self._seed,
            round_=round_,
        )

    def _scores(self, numbers: list[int], drawn: Rollout) -> Scores:
        """Rewards of the answers; an answer that was cut off has its own."""
        repeated = [n for n in numbers for _ in range(self._config.answers)]
        texts = [
            answer_text(self._tokenizer, self._asked.ids[number], answer.tokens)
            for number, answer in zip(repeated, drawn.answers)
        ]
        prompts = [self._asked.prompts[number] for number in repeated]
        stopped = [answer.stop_reason == "stop" for answer in drawn.answers]
        scores = self._reward(prompts, texts, stopped)
        if not np.isfinite(scores.total).all():
            raise UserError("a reward is not finite; nothing was trained on")
        return scores

    def _said(
        self, scores: Scores, drawn: Rollout, apart: float, round_: int
    ) -> dict[str, float]:
        """What stands in metrics.jsonl of this round's answers."""
        rewards_PK = scores.total.reshape(-1, self._config.answers)
        equal = float(np.mean(np.ptp(rewards_PK, axis=1) == 0))
        is_of_groups = self._critic is None and isinstance(self._policy, PolicyConfig)
        if equal == 1 and is_of_groups:
            print(
                f"round {round_ + 1}: all answers to each prompt have the same reward,"
                " so there is nothing to learn from them",
                file=sys.stderr,
            )
        stopped = [a.stop_reason == "stop" for a in drawn.answers]
        return {
            "reward": float(scores.total.mean()),
            **{f"reward_{k}": float(np.mean(v)) for k, v in scores.parts.items()},
            "equal_groups": equal,
            "answer_tokens": float(drawn.batch["weights"].sum(1).mean()),
            "stopped": float(np.mean(stopped)),
            "sampler_apart": apart,
        }


def fitting(
    prompts: Sequence[Prompt], ids: Sequence[list[int]], slots: int
) -> tuple[Asked, int]:
    """The prompts that have at most `slots` tokens, and how many have more."""
    kept = [i for i, each in enumerate(ids) if len(each) <= slots]
    if not kept:
        raise UserError(
            f"rollout.slots {slots}: every prompt is longer; the shortest has"
            f" {min(map(len, ids))} tokens"
        )
    asked = Asked([prompts[i] for i in kept], [ids[i] for i in kept])
    return asked, len(ids) - len(kept)
