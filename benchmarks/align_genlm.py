"""GENLM'S SIDE of align: python -m benchmarks.align_genlm FOLDER.

A round of the stage grpo: what stages.experience draws, and a train step. It compiles
nothing after its second round, or the benchmark ends there.
"""

import json
from pathlib import Path
import sys
from typing import Any, Sequence

import jax
from jax import monitoring
import jax.numpy as jnp
import numpy as np

from benchmarks import pairs, train_genlm
from benchmarks.align import (
    ANSWERS,
    LEARNING_RATE,
    PROMPTS,
    SLOTS,
    TOKENS,
    UNFINISHED,
    reward,
)
from genlm.data.prompts import Prompt
from genlm.errors import UserError
from genlm.evaluate.graders import Scores
from genlm.interop import bring, hf_config, weights
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.posttrain import policy
from genlm.posttrain.policy import PolicyConfig
from genlm.stages import adaptation
from genlm.stages.experience import Asked, Experience, RolloutConfig
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train.step import make_train_step

ROLLOUT = RolloutConfig(ANSWERS, SLOTS, TOKENS, 1.0, epochs=1, minibatches=1)
POLICY = PolicyConfig(
    ratio="token",
    clip_low=0.2,
    clip_high=0.2,
    average="token",
    kl="none",
    estimator="k3",
    beta=0.0,
    target=0.0,
    entropy=0.0,
    baseline="group_mean",
    scale="group",
)


def main(folder: Path) -> None:
    hosts.setup()
    pairs.serve(
        {"one update a round": lambda: make_step(folder)},
        train_genlm.make_product("float32"),
    )


def make_step(folder: Path) -> pairs.Step:
    """A round; what it returns is the mean number of tokens of an answer."""
    source = bring.open_source(folder / "hf")
    model = TransformerConfig(**hf_config.to_config(source.config))
    tokenizer = bring.open_tokenizer(folder / "hf", source, model.vocab_size)
    mesh = meshes.make(meshes.MeshConfig())
    adapted = adaptation.fresh(model)._replace(
        first=lambda drawn: weights.load(source, model)
    )
    asked = _asked(json.loads((folder / "prompts.json").read_text()))
    optimizing = optimizers.OptimizerConfig(
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_steps=0,
        beta2=0.999,
        weight_decay=0.0,
    )
    optimizer = optimizers.make_optimizer(optimizing, 10**6, adapted.specs)
    train_step = jax.jit(
        make_train_step(
            adapted.loss(policy.make_policy_loss(model, ROLLOUT.sampling, POLICY)),
            optimizer,
            optimizers.make_schedule(optimizing, 10**6),
        ),
        donate_argnums=0,
        out_shardings=(
            states.shardings(adapted.specs, optimizer, mesh),
            sharding.replicated(mesh),
        ),
    )
    experience = Experience(
        adapted,
        tokenizer,
        asked,
        _rewards,
        ROLLOUT,
        POLICY,
        reference=None,
        seed=0,
        mesh=mesh,
    )
    state = adapted.adopted(states.born_sharded(adapted.specs, optimizer, mesh, seed=0))
    compiled = _Compiled()
    rounds = 0

    def step() -> jax.Array:
        nonlocal state, rounds
        first = rounds * PROMPTS
        numbers = np.arange(first, first + PROMPTS, dtype=np.int32) % len(asked.ids)
        before = len(compiled.names)
        with sharding.laid_out(mesh):
            batch, said = experience(state, {"numbers": numbers[:, None]})
            state, metrics = train_step(state, batch, None)
        rounds += 1
        if rounds > 2 and (late := compiled.names[before:]):
            raise UserError(f"round {rounds} compiled {', '.join(late)}")
        return jnp.where(jnp.isnan(metrics["loss"]), jnp.nan, said["answer_tokens"])

    return step


class _Compiled:
    """The names of what is compiled from now on."""

    def __init__(self) -> None:
        self.names: list[str] = []
        monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.names.append(about["fun_name"])


def _asked(rows: list) -> Asked:
    prompts = [
        Prompt([{"role": "user", "content": row["prompt"]}], {}, ()) for row in rows
    ]
    return Asked(prompts, [row["ids"] for row in rows])


def _rewards(
    _: Sequence[Prompt], texts: Sequence[str], stopped: Sequence[bool]
) -> Scores:
    found = [reward(text) if s else UNFINISHED for text, s in zip(texts, stopped)]
    return Scores(np.asarray(found, np.float32), {})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
