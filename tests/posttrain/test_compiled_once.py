"""A policy's rounds compile what they need once, whatever the lengths of prompts."""

import json
from pathlib import Path

import jax
from jax import monitoring
import pytest

from experiments import alignment
from genlm import stages
from genlm.posttrain import rollout
from tests.stages import made

ROUNDS, PROMPTS = 5, 8  # the state is saved within the last
NEAR = {"policy__kl": "loss", "policy__beta": 0.1}
PARTS = {"rollout__epochs": 2, "rollout__minibatches": 2}
CHANGE = {"lora__rank": 2, "lora__targets": ("layers/attention/*",)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows a template of conversations."""
    folder = tmp_path_factory.mktemp("source")
    config = made.sft(made.pretrained(folder), made.questions(folder / "asked.jsonl"))
    stages.run(config, folder / "sft")
    return folder / "sft"


def _prompts(path: Path) -> Path:
    """A file of questions, no two of a length."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{number} " + "a" * number},
                {"role": "assistant", "content": str(number)},
            ]
        }
        for number in range(60)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, update, scored",
    [
        ({}, "train_step", 1),
        (NEAR, "train_step", 2),
        (PARTS, "round_step", 1),
        (NEAR | CHANGE, "train_step", 2),
    ],
    ids=["plain", "near a reference", "in parts", "a low-rank change"],
)
def test_rounds_compile_once(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict,
    update: str,
    scored: int,
):
    """The stage itself. The policy scores a round's first group, for parity, and where
    there is a reference it scores the round."""
    config = alignment.grpo(str(source))
    config.data.update({"paths": str(_prompts(tmp_path / "asked.jsonl"))})
    config.rollout.update({"answers": 2, "max_tokens": 6, "slots": 128})
    config.train.update({"num_steps": ROUNDS, "batch_size": PROMPTS, "log_every": 1})
    config.eval.update({"eval_every": 0, "sample_every": 0})
    config.guard.disk_seconds = 0.0
    made.changed(config, changes)
    longest: list[int] = []  # prompt of each round that has begun
    compiled: list[tuple[int, str]] = []  # in which round, and what
    plain = rollout.roll_out

    def noted(params, model, prompts, **settings):
        longest.append(max(map(len, prompts)))
        return plain(params, model, prompts, **settings)

    def listen(event: str, _: float, **about: str) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append((len(longest), about["fun_name"]))

    jax.clear_caches()
    monkeypatch.setattr(rollout, "roll_out", noted)
    monitoring.register_event_duration_secs_listener(listen)
    try:
        stages.run(config, tmp_path / "run")
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert len(set(longest[:ROUNDS])) > 1, "prompts of one length show nothing"
    names = [name for _, name in compiled]
    for part, times in {"_decode": 1, "score": scored, update: 1}.items():
        assert names.count(f"jit({part})") == times, (part, compiled)
    assert not [name for number, name in compiled if 2 < number < ROUNDS]
