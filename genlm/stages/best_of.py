"""BEST OF: a run's best answers to prompts -> conversations, to be learnt from.

Before: a run that answers (config.source), prompts, and a reward. After: sft, which
learns from answers.jsonl (rejection sampling, arXiv:2307.09288, section 3.2.3). Of
`rollout.answers` to each prompt the one with the highest reward is kept, if it has
stopped by itself and its reward is `least` or more.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.errors import UserError
from genlm.interop.run import find, open_run
from genlm.parallel import hosts
from genlm.posttrain import best_of, rollout
from genlm.runs import directory, lineage
from genlm.runs.progress import Bar
from genlm.stages import align, rerun, rewards
from genlm.stages.align import PromptsConfig
from genlm.stages.experience import Asked, RolloutConfig
from genlm.stages.rewards import RewardSection
from genlm.tokenizer.base import answer_text

READS = ("seed", "source", "data", "rollout", "reward", "best_of")
ANSWERS, RESULTS = "answers.jsonl", "results.json"


@dataclasses.dataclass(frozen=True)
class BestOfConfig:
    """prompts: how many are asked, 0 for all that are not held out; batch_size: of them
    at once; least: the reward below which no answer is kept."""

    prompts: int
    batch_size: int
    least: float

    def __post_init__(self) -> None:
        if self.prompts < 0 or self.batch_size < 1:
            raise UserError("best_of.prompts is below 0, or batch_size not positive")


def read(
    config: ConfigDict,
) -> tuple[PromptsConfig, RolloutConfig, RewardSection, BestOfConfig]:
    """What this stage reads of a config, checked."""
    return (
        configs.to_dataclass(PromptsConfig, config.data),
        configs.to_dataclass(RolloutConfig, config.rollout, epochs=1, minibatches=1),
        configs.to_dataclass(RewardSection, config.reward),
        configs.to_dataclass(BestOfConfig, config.best_of),
    )


def run(config: ConfigDict, workdir: Path) -> None:
    """Write workdir/answers.jsonl and results.json."""
    data, rolling, section, wanted = read(config)
    source = find(Path(config.source))
    inputs = {**align.inputs_of(data, source, workdir), **section.inputs()}
    if rerun.is_finished(config, workdir, inputs):
        return
    hosts.setup()
    directory.create(workdir)
    opened = open_run(source)
    asked, _ = align.asked(data, rolling, opened.tokenizer)
    number = min(wanted.prompts or len(asked.ids), len(asked.ids))
    rng = np.random.default_rng(config.seed)
    chosen = rng.permutation(len(asked.ids))[:number].tolist()
    rows, found = _answered(
        opened, asked, chosen, rolling, section, wanted, config.seed
    )
    if not rows:
        raise UserError(
            f"best_of.least {wanted.least}: no answer has such a reward; the highest is"
            f" {max(found['best']):.4g}"
        )
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    results = {
        "prompts": number,
        "kept": len(rows),
        "mean_reward": float(np.mean(found["mean"])),
        "best_reward": float(np.mean(found["best"])),
    }
    rerun.save_config(config, workdir)
    directory.write_atomic(workdir / ANSWERS, "".join(lines))
    directory.write_json(workdir / RESULTS, results)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, [ANSWERS, RESULTS]))
    print(
        f"{len(rows):,} of {number:,} prompts have an answer to learn from; rewards:"
        f" {results['mean_reward']:.4g} a drawn one, {results['best_reward']:.4g} the"
        " best of each",
        flush=True,
    )


def _answered(
    opened: Any,
    asked: Asked,
    chosen: list[int],
    rolling: RolloutConfig,
    section: RewardSection,
    wanted: BestOfConfig,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """The conversations to keep, and of each prompt the mean and the best reward."""
    reward, special = rewards.of(section), opened.tokenizer.special
    rows: list[dict[str, Any]] = []
    found: dict[str, list[float]] = {"mean": [], "best": []}
    size, count = wanted.batch_size, rolling.answers
    with Bar("answer", len(chosen), unit="prompts") as bar:
        for round_, start in enumerate(range(0, len(chosen), size)):
            these = chosen[start : start + size]
            padded = these + these[-1:] * (size - len(these))  # compiled once
            drawn = rollout.roll_out(
                opened.params,
                opened.config.without_chance,
                [asked.ids[number] for number in padded],
                count=count,
                slots=rolling.slots,
                max_tokens=rolling.max_tokens,
                sampling=rolling.sampling,
                stop_ids=special.all_stops,
                pad=special.pad,
                seed=seed,
                round_=round_,
            )
            prompts = [asked.prompts[n] for n in these for _ in range(count)]
            answers = drawn.answers[: len(prompts)]
            ids = [asked.ids[n] for n in these for _ in range(count)]
            texts = [
                answer_text(opened.tokenizer, p, a.tokens) for p, a in zip(ids, answers)
            ]
            stopped = np.asarray([a.stop_reason == "stop" for a in answers])
            rewards_B = reward(prompts, texts, stopped.tolist()).total
            rewards_PK = rewards_B.reshape(-1, count)
            found["mean"] += rewards_PK.mean(1).tolist()
            found["best"] += rewards_PK.max(1).tolist()
            for place, k in enumerate(best_of.best(rewards_PK)):
                at = place * count + int(k)
                if stopped[at] and rewards_B[at] >= wanted.least:
                    said = {"role": "assistant", "content": texts[at]}
                    rows.append({"messages": [*prompts[at].messages, said]})
            bar.update(start + len(these))
    return rows, found
