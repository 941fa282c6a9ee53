"""A TOY WORLD: one prompt, a few answers with known rewards, and a real policy.

Every answer has the same number of tokens, so that all of them can be written down with
their probabilities; the policy is a transformer of the project, its answers come from
the decoder, and what trains it are the functions that the stages call.
"""

import dataclasses
import functools
import itertools
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np

from genlm.inference.sampling import SamplingConfig
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.model.heads import head_specs
from genlm.parallel import mesh as meshes
from genlm.parallel import specs as parameters
from genlm.posttrain import critic, groups, policy, rollout
from genlm.posttrain.critic import CriticConfig
from genlm.posttrain.online import OnlineConfig, make_online_loss
from genlm.posttrain.policy import PolicyConfig
from genlm.train import losses
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train.step import make_train_step

SAMPLING = SamplingConfig(1.0)
# two unlike tokens: with one, an answer that begins with it would be like no answer
# yet, as a mean of equal values is that value, and no policy could tell them apart
PROMPT = [0, 1]
CRITIC = CriticConfig(discount=1.0, decay=1.0, clip=0.0, share=0.5, whiten=False)
RLOO = {
    "ratio": "token",
    "clip_low": 0.2,
    "clip_high": 0.2,
    "average": "sum",
    "kl": "loss",
    "estimator": "k2",
    "beta": 0.5,
    "target": 0.0,
    "entropy": 0.0,
    "baseline": "leave_one_out",
    "scale": "none",
}


@dataclasses.dataclass(frozen=True)
class World:
    """rewards [V] or [V, V]: of each answer, of one token or of two."""

    model: TransformerConfig
    params: Any
    rewards: np.ndarray

    @property
    def length(self) -> int:
        return self.rewards.ndim

    @property
    def answers(self) -> np.ndarray:
        """All of them, [answers, length]."""
        tokens = range(self.model.vocab_size)
        return np.asarray([*itertools.product(tokens, repeat=self.length)])

    def distribution(self, params: Any) -> np.ndarray:
        """The probability of each answer, in the shape of `rewards`."""
        answers = self.answers
        rows = np.concatenate([np.tile(PROMPT, (len(answers), 1)), answers], axis=1)
        batch = {
            "tokens": rows[:, :-1],
            "segments": np.ones_like(rows[:, :-1]),
            "positions": np.tile(np.arange(rows.shape[1] - 1), (len(rows), 1)),
        }
        hidden_BTD, _, _ = transformer.apply(params, batch, self.model)
        logprobs_BT = losses.token_logprobs(params, hidden_BTD, rows[:, 1:], self.model)
        of_answers_B = np.asarray(logprobs_BT)[:, len(PROMPT) - 1 :].sum(1)
        return np.exp(of_answers_B).reshape(self.rewards.shape)

    @functools.cached_property
    def reference(self) -> np.ndarray:
        return self.distribution(self.params)


def make(rewards: Any, seed: int = 0) -> World:
    """A world whose policy begins far from uniform."""
    rewards = np.asarray(rewards, np.float32)
    model = TransformerConfig(
        vocab_size=rewards.shape[0],
        max_length=8,
        num_layers=1,
        model_dim=16,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        mlp_dim=32,
        tie_embeddings=False,
    )
    params = parameters.initialize(
        transformer.param_specs(model), jax.random.PRNGKey(seed)
    )
    spread = jax.random.normal(
        jax.random.PRNGKey(seed + 1), params["unembedding"].shape
    )
    return World(model, {**params, "unembedding": 0.3 * spread}, rewards)


def apart(p: np.ndarray, q: np.ndarray) -> float:
    """Their total variation."""
    return float(0.5 * np.abs(p - q).sum())


def optimizer(specs: Any, num_steps: int, rate: float) -> tuple[Any, Any]:
    config = optimizers.OptimizerConfig(
        learning_rate=rate, warmup_steps=1, final_rate=0.01, weight_decay=0.0
    )
    made = optimizers.make_optimizer(config, num_steps, specs)
    return made, optimizers.make_schedule(config, num_steps)


def learnt(
    world: World,
    changes: dict[str, Any],
    *,
    answers: int = 4,
    prompts: int = 512,
    num_steps: int = 300,
    rate: float = 0.01,
    with_critic: bool = False,
    online: OnlineConfig | None = None,
) -> np.ndarray:
    """The distribution that a policy ends with, trained on its own answers."""
    config = PolicyConfig(**(RLOO | changes))
    specs = transformer.param_specs(world.model)
    params = world.params
    loss = policy.make_policy_loss(world.model, SAMPLING, config)
    if online:
        loss = make_online_loss(world.model, SAMPLING, online)
    if with_critic:
        specs = {"model": specs, "head": head_specs(world.model, critic.HEAD)}
        head = parameters.initialize(specs["head"], jax.random.PRNGKey(0))
        params = {"model": params, "head": head}
        loss = critic.make_ppo_loss(world.model, SAMPLING, config, CRITIC)
    made, schedule = optimizer(specs, num_steps, rate)
    mesh = meshes.make(meshes.MeshConfig(), jax.devices()[:1])
    state = states.born_sharded(specs, made, mesh, seed=0)
    state = states.adopted(state, jax.tree.map(jnp.copy, params))
    step = jax.jit(make_train_step(loss, made, schedule), donate_argnums=0)
    prepare = _prepared(world, config, answers, with_critic)
    for round_ in range(num_steps):
        of_model = state.params["model"] if with_critic else state.params
        drawn = rollout.roll_out(
            of_model,
            world.model,
            [PROMPT] * prompts,
            count=answers,
            slots=16,
            max_tokens=world.length,
            sampling=SAMPLING,
            stop_ids=(-1,),
            pad=0,
            seed=1,
            round_=round_,
        )
        tokens = np.asarray([answer.tokens for answer in drawn.answers])
        rewards = world.rewards[tuple(tokens.T)]
        batch = prepare(state.params, jax.tree.map(jnp.asarray, drawn.batch), rewards)
        state, _ = step(state, groups.folded(batch), None)
    final = state.params["model"] if with_critic else state.params
    return world.distribution(final)


def _prepared(
    world: World, config: PolicyConfig, answers: int, with_critic: bool
) -> Callable[..., Any]:
    """What stages.experience does: advantages of rewards."""
    score = policy.make_scorer(world.model, SAMPLING)
    read = critic.make_reader(world.model)

    def prepare(params: Any, batch: Any, rewards_B: Any) -> Any:
        batch = batch | {"reference": score(world.params, batch)}
        batch["rewards"] = jnp.asarray(rewards_B)
        rewards_BT = policy.rewarded(config, batch, jnp.asarray(rewards_B), config.beta)
        if not with_critic:
            found_BT = policy.of_groups(config, rewards_BT, batch["weights"], answers)
            return batch | {"advantages": found_BT}
        values_BT = read(params, batch)
        return batch | critic.targets(CRITIC, rewards_BT, values_BT, batch["weights"])

    return prepare
