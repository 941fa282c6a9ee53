"""ALIGN: what both stages have in common that train a policy by its own answers.

Before: a run that answers (sft), prompts, and a reward. After: chat, evaluate. A round
is one step of the loop: prompts, answers, rewards, and one update or several. The model
of `source` is where the policy begins and, where a divergence counts, its reference.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm import tokenizer as tokenizers
from genlm.data import chat, conversations, embedded, prompts
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import FOLDER as ADAPTER
from genlm.posttrain import critic, policy, update
from genlm.posttrain.critic import CriticConfig
from genlm.posttrain.online import OnlineConfig, make_online_loss
from genlm.posttrain.policy import PolicyConfig
from genlm.runs import lineage
from genlm.stages import adaptation, experience, prepare
from genlm.stages import recipe as recipes
from genlm.stages import rewards, training
from genlm.stages.adaptation import Adaptation
from genlm.stages.experience import Asked, Experience, Numbers, RolloutConfig
from genlm.stages.held_out_answers import HeldOut
from genlm.stages.recipe import Recipe
from genlm.stages.rewards import RewardSection
from genlm.stages.training import Measure, Task
from genlm.tokenizer.base import Tokenizer
from genlm.train.step import TrainStep

READS = (
    *recipes.READS,
    "source",
    "data",
    "rollout",
    "policy",
    "reward",
    "lora",
    "model",
)
LACKING = {"eval": {"prompts": ("",), "chat": False, "temperature": 0.0, "top_p": 1.0}}


@dataclasses.dataclass(frozen=True)
class PromptsConfig:
    """What is asked: see data.prompts for `paths`, data.conversations for `form`."""

    paths: str
    form: str
    strict: bool
    valid_fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise UserError("data.valid_fraction is not between 0 and 1")
        prompts.check_form(self.form)


class Aims(NamedTuple):
    """The sections of a config that the method itself reads, checked."""

    recipe: Recipe
    data: PromptsConfig
    rollout: RolloutConfig
    policy: PolicyConfig | OnlineConfig
    reward: RewardSection
    critic: CriticConfig | None


def read(
    config: ConfigDict,
    critic_config: CriticConfig | None = None,
    online: OnlineConfig | None = None,
) -> Aims:
    """What a stage of this kind reads; a wrong value is an error now."""
    recipe = recipes.read(config, LACKING)
    adaptation.read(config)
    recipes.refuse(
        recipe,
        *recipes.OF_NEXT_TOKEN,
        "train.probe_every",
        "train.ramp_from",
        "checkpoint.export_every",
        "checkpoint.keep_best",
    )
    aims = Aims(
        recipe,
        configs.to_dataclass(PromptsConfig, config.data),
        configs.to_dataclass(RolloutConfig, config.rollout),
        online or configs.to_dataclass(PolicyConfig, config.policy),
        configs.to_dataclass(RewardSection, config.reward),
        critic_config,
    )
    _check(aims)
    return aims


def _check(aims: Aims) -> None:
    """Make sure that groups and parts of a round are what the method needs."""
    rollout, of_policy = aims.rollout, aims.policy
    beside_others = True
    if isinstance(of_policy, PolicyConfig):
        beside_others = of_policy.baseline in ("leave_one_out", "group_mean")
        if aims.critic and (of_policy.baseline, of_policy.scale) != ("none", "none"):
            raise UserError("policy.baseline and scale are none beside a critic")
        if of_policy.baseline == "none" and of_policy.scale == "group":
            raise UserError("policy.scale=group goes with a baseline of the group")
    if rollout.answers < 2 and beside_others:
        raise UserError(
            f"rollout.answers is {rollout.answers}: an answer is held against others to"
            " the same prompt, so there must be 2 at least"
        )
    prompts = aims.recipe.train.batch_size
    parts = rollout.minibatches * aims.recipe.train.num_microbatches
    if prompts % parts:
        raise UserError(
            f"a round has {prompts} prompts (train.batch_size), which do not divide"
            f" into {parts} parts (rollout.minibatches by train.num_microbatches)"
        )


def run(config: ConfigDict, workdir: Path, aims: Aims) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    source = interop.find(Path(config.source))
    tokenizer = tokenizers.load(source / "tokenizer")
    train, held_out = asked(aims.data, aims.rollout, tokenizer)
    inputs = {**inputs_of(aims.data, source, workdir), **aims.reward.inputs()}
    model = adaptation.shape(config, source, tokenizer.vocab_size)
    if model.max_length < aims.rollout.slots + aims.rollout.max_tokens:
        raise UserError(
            f"rollout.slots and max_tokens are {aims.rollout.slots} and"
            f" {aims.rollout.max_tokens}, and the model looks back {model.max_length}"
        )

    def make_task(mesh: jax.sharding.Mesh) -> Task:
        length = aims.rollout.slots + aims.rollout.max_tokens
        recipes.check_division(aims.recipe, model, length, mesh)
        section, seed = adaptation.read(config), aims.recipe.seed
        adapted = adaptation.of(section, model, source, workdir, seed, mesh)
        reference = _reference(aims.policy, adapted, source)
        return _task(aims, tokenizer, adapted, reference, train, held_out, mesh)

    training.run(config, workdir, aims.recipe, inputs, make_task)


def asked(
    data: PromptsConfig, rollout: RolloutConfig, tokenizer: Tokenizer
) -> tuple[Asked, Asked]:
    """Prompts to train on, and those that are held out."""
    found = prompts.read(data.paths, data.form, data.strict)
    sides, longer = [], 0
    for side in prompts.split(found, data.valid_fraction):
        ids = [chat.encode_chat(tokenizer, each.messages) for each in side]
        fitting, left_out = experience.fitting(side, ids, rollout.slots)
        longer += left_out
        sides.append(fitting)
    train, held_out = sides
    print(
        f"{len(train.ids):,} prompts to train on, {len(held_out.ids):,} held out;"
        f" {longer:,} are longer than rollout.slots and left out",
        flush=True,
    )
    return train, held_out


def inputs_of(data: PromptsConfig, source: Path, workdir: Path) -> dict[str, Any]:
    """Lineage entries of the model and of the files of prompts."""
    known = {conversations.EMBEDDED: embedded.files, prompts.SUMS: lambda: []}
    files = prepare.named_files([data.paths], known)
    own = lineage.of_inputs(files, lineage.read(workdir).get("inputs", {}))
    outputs = lineage.read(source).get("outputs")
    return {**own, str(source): {"sha256": lineage.digest(outputs)}}


def _reference(
    config: PolicyConfig | OnlineConfig, adapted: Adaptation, source: Path
) -> Any:
    """The parameters that a policy stays near; None where nothing is held against
    them. Beside a low-rank change they are its base."""
    if isinstance(config, PolicyConfig) and config.kl == "none":
        return None
    return adapted.frozen if adapted.trained.lora else interop.open_run(source).params


def _task(
    aims: Aims,
    tokenizer: Tokenizer,
    adapted: Adaptation,
    reference: Any,
    asked: Asked,
    held_out: Asked,
    mesh: jax.sharding.Mesh,
) -> Task:
    recipe, model = aims.recipe, adapted.model
    rollout, of_policy = aims.rollout, aims.policy
    sampling, kept = rollout.sampling, {}
    if isinstance(of_policy, OnlineConfig):
        loss = make_online_loss(model, sampling, of_policy)
    else:
        kept = {"beta": of_policy.beta} if of_policy.target else {}
        if aims.critic is None:
            loss = policy.make_policy_loss(model, sampling, of_policy)
        else:
            adapted = adapted.with_head(critic.HEAD)
            loss = critic.make_ppo_loss(model, sampling, of_policy, aims.critic)

    def treat(train_step: TrainStep) -> TrainStep:
        made = update.make_round_step(train_step, rollout.epochs, rollout.minibatches)
        if isinstance(of_policy, PolicyConfig) and of_policy.target:
            return policy.steered(made, of_policy)
        return made

    parts = training.make_parts(
        adapted.specs, adapted.loss(loss), recipe, mesh, treat=treat, kept=kept
    )
    reward = rewards.of(aims.reward)
    drawing = Experience(
        adapted,
        tokenizer,
        asked,
        reward,
        rollout,
        aims.policy,
        reference,
        recipe.seed,
        mesh,
        aims.critic,
    )
    evaluation = recipe.evaluation
    said = HeldOut(
        model.without_chance,
        tokenizer,
        held_out,
        reward,
        max_rows=evaluation.max_rows,
        batch_size=evaluation.batch_size,
        slots=rollout.slots,
        max_tokens=rollout.max_tokens,
    )

    def of_model(params: Any) -> Any:
        return params["model"] if aims.critic else params

    return Task(
        parts,
        lambda plan: Numbers(len(asked.ids), plan, recipe.seed),
        (
            Measure(
                evaluation.eval_every, adapted.look(lambda p: said.score(of_model(p)))
            ),
            Measure(
                evaluation.sample_every,
                adapted.look(lambda p: said.show(of_model(p))),
                "samples",
            ),
        ),
        float("nan"),
        lambda workdir: adapted.save(workdir, tokenizer),
        adapted.finish,
        adapted.adopted,
        adapted.frozen,
        experience=drawing,
        made=(trained.NAME, ADAPTER),
    )
