"""Reward models, direct preference, and policies that learn from their own answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import alignment
from genlm import stages
from genlm.errors import UserError
from genlm.interop import reward_model
from genlm.interop.run import open_head, open_run, read_params
from genlm.runs import metrics, report
from genlm.stages.prepare import Prepared
from tests.stages import made

SLOW = pytest.mark.slow
MESSAGE = {"role": "user", "content": "What is 2 + 2?"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("align")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    """A model that knows the tokens of a chat."""
    data = made.questions(folder / "questions.jsonl")
    stages.run(made.sft(made.pretrained(folder), data), folder / "chat")
    return folder / "chat"


@pytest.fixture(scope="module")
def preferences(folder: Path) -> Path:
    """Rankings of three answers, pairs, and one row in which nothing is better."""
    path = folder / "preferences.jsonl"
    rows = [
        {
            "prompt": f"How much is {a} + {a}?",
            "answers": [str(2 * a), f"It is {2 * a}", "no"],
            "ranks": [1, 2, 3] if a % 2 else [1, 2, 2],
        }
        for a in range(40)
    ]
    rows.append({"prompt": "Well?", "answers": ["a", "b"], "ranks": [1, 1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _small(config, **changes):
    config.train.update({"num_steps": 2, "log_every": 1})
    config.train.batch_size = 8
    config.eval.update({"batch_size": 8, "eval_every": 1})
    config.checkpoint.update({"save_every": 1, "keep_best": False})
    config.guard.disk_seconds = 0.0
    config.optimizer.warmup_steps = 1
    config.lora.targets = ("layers/attention/*", "layers/mlp/*")
    return made.changed(config, changes)


def _preferring(config, preferences: Path, **changes):
    config.data.update({"paths": str(preferences), "row_length": 3 * made.ROW})
    config.data.valid_fraction = 0.3  # of few prompts
    if "prompts" in config.eval:
        config.eval.update({"prompts": ("1 + 1 =",), "max_tokens": 4})
    return _small(config, **changes)


def _policy(config, **changes):
    config.rollout.update({"slots": 64, "max_tokens": 4})
    config.reward.graders = ("length:1", "exact:1")  # bytes of an untrained model
    config.eval.max_rows = 8
    return _small(config, **changes)


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=SLOW)])
def test_a_reward_model(folder, source, preferences, rank: int, capsys):
    workdir = folder / f"reward{rank}"
    stages.run(
        _preferring(alignment.reward(str(source)), preferences, lora__rank=rank),
        workdir,
    )
    assert "tied" in capsys.readouterr().out  # what says nothing is said
    first, *_ = metrics.read(workdir / "metrics.jsonl")
    assert first["step"] == 1 and first["accuracy"] == 0.5  # the head begins at 0
    results = json.loads((workdir / "results.json").read_text())
    rows = [json.loads(line) for line in open(workdir / "predictions.jsonl")]
    assert results["comparisons"] == len(rows) > 0
    opened = reward_model.open_model(workdir)
    ends = ["4", "", "no"]
    asked = [[MESSAGE, {"role": "assistant", "content": end}] for end in ends]
    scores = opened.scores(asked)
    alone = [opened.scores([each])[0] for each in asked]
    np.testing.assert_allclose(scores, alone, rtol=1e-4, atol=1e-6)
    assert len(set(scores.tolist())) == 3


@pytest.fixture(scope="module")
def preferring(folder, source, preferences):
    """A run of a kind of dpo, made once."""

    def run(kind: str) -> Path:
        recipe = _preferring(alignment.dpo(str(source)), preferences, dpo__kind=kind)
        stages.run(recipe, folder / kind)
        return folder / kind

    return run


@pytest.mark.parametrize(
    "kind",
    ["dpo", *(pytest.param(k, marks=SLOW) for k in ("ipo", "kto", "orpo", "simpo"))],
)
def test_direct_preference(preferring, source, kind: str):
    workdir = preferring(kind)
    rows = metrics.read(workdir / "metrics.jsonl")
    if kind == "dpo":
        assert rows[0]["loss"] == pytest.approx(np.log(2), rel=1e-5)
        assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-5)
    assert (workdir / "reference.npz").exists() == (kind not in ("orpo", "simpo"))
    assert "valid_margin" in rows[-1]
    before, after = open_run(source).params, open_run(workdir).params
    assert np.any(np.asarray(before["embedding"]) != np.asarray(after["embedding"]))


@SLOW
def test_a_reference_beside_a_change_is_its_base(
    folder, source, preferences, preferring
):
    whole, workdir = preferring("dpo"), folder / "dpo_change"
    recipe = _preferring(alignment.dpo(str(source)), preferences, lora__rank=2)
    stages.run(recipe, workdir)
    first, *_ = metrics.read(workdir / "metrics.jsonl")
    assert first["loss"] == pytest.approx(np.log(2), rel=1e-5)
    for split in ("train", "valid"):
        pairs = [np.load(run / "reference.npz") for run in (whole, workdir)]
        np.testing.assert_allclose(pairs[0][split], pairs[1][split], rtol=1e-5)


@pytest.mark.parametrize("rank", [0, pytest.param(2, marks=SLOW)])
def test_a_policy_of_groups(folder, source, rank: int):
    workdir = folder / f"grpo{rank}"
    recipe = _policy(alignment.grpo(str(source)), rollout__answers=4, lora__rank=rank)
    recipe.policy.update({"kl": "loss", "beta": 0.1})
    stages.run(recipe, workdir)
    rows = [r for r in metrics.read(workdir / "metrics.jsonl") if "reward" in r]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-6)  # it begins at the reference
    assert rows[0]["clipped"] == 0 and rows[0]["sampler_apart"] < 1e-4
    samples = metrics.read(workdir / "samples.jsonl")[-1]["samples"]
    assert len({each["prompt"] for each in samples}) == 4
    assert samples[0]["text"][:9] in report.page(workdir, lambda fields: 0)
    open_run(workdir)


@pytest.mark.slow
def test_a_policy_with_a_critic(folder, source):
    workdir = folder / "ppo"
    recipe = _policy(alignment.ppo(str(source)))
    recipe.policy.update({"kl": "reward", "estimator": "k1"})
    recipe.policy.update({"beta": 0.1, "target": 1.0})
    stages.run(recipe, workdir)
    rows = [r for r in metrics.read(workdir / "metrics.jsonl") if "reward" in r]
    assert all(row["value_loss"] > 0 for row in rows)
    # the divergence is far below its target, and its share becomes less
    assert [row["beta"] for row in rows] == pytest.approx([0.1, 0.1 * 0.98])
    _, head, params = open_head(workdir)
    assert head.labels == ("value",) and np.any(np.asarray(params["weight"]) != 0)
    open_run(workdir)  # and without it, as a model that answers


def test_a_policy_of_its_own_pairs(folder, source):
    recipe = _policy(alignment.online_dpo(str(source)))
    stages.run(recipe, folder / "online")
    rows = [r for r in metrics.read(folder / "online/metrics.jsonl") if "reward" in r]
    assert rows[0]["loss"] >= np.log(2) - 1e-6 and rows[0]["margin"] == 0
    assert rows[1]["margin"] != 0 and rows[1]["gradient_norm"] > 0
    open_run(folder / "online")


@SLOW
def test_a_reward_model_teaches_a_policy(folder, source, preferences):
    judge = folder / "judge"
    stages.run(_preferring(alignment.reward(str(source)), preferences), judge)
    recipe = _policy(alignment.grpo(str(source)))
    recipe.reward.update({"graders": ("model:1",), "models": (str(judge),)})
    with pytest.raises(UserError, match="being cut off would pay"):
        stages.run(recipe, folder / "taught")
    recipe.reward.unfinished = -5.0
    stages.run(recipe, folder / "taught")
    rows = [r for r in metrics.read(folder / "taught/metrics.jsonl") if "reward" in r]
    assert rows[0]["reward"] != 0 and rows[0]["equal_groups"] < 1


@SLOW
def test_equal_rewards_change_nothing_and_are_said(folder, source, capsys):
    recipe = _policy(alignment.grpo(str(source)))
    recipe.reward.update({"graders": ("exact:0",)})
    stages.run(recipe, folder / "equal")
    assert "nothing to learn" in capsys.readouterr().err
    rows = [r for r in metrics.read(folder / "equal/metrics.jsonl") if "reward" in r]
    assert all(row["gradient_norm"] == 0 for row in rows)
    before, after = read_params(source), read_params(folder / "equal")
    np.testing.assert_array_equal(before["embedding"], after["embedding"])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"rollout__answers": 1}, "2 at least"),
        ({"rollout__temperature": 0.0}, "temperature"),
        ({"rollout__slots": 16}, "every prompt is longer"),
        ({"rollout__minibatches": 3}, "do not divide"),
        ({"reward__graders": ("exakt:1",)}, "exact"),
        ({"reward__graders": ()}, "grader"),
        ({"reward__graders": ("model:1",)}, "model"),
        ({"policy__kl": "loss"}, "policy.beta"),
        ({"policy__kl": "reward", "policy__beta": 0.1}, "another optimum"),
        ({"checkpoint__keep_best": True}, "keep_best"),
        ({"train__z_loss": 0.1}, "z_loss"),
        ({"data__valid_fraction": 1e-9}, "held out"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path, source, changes, words: str):
    recipe = made.changed(_policy(alignment.grpo(str(source))), changes)
    with pytest.raises(UserError, match=words):
        stages.run(recipe, tmp_path / "run")


def test_a_critic_has_no_baseline_beside(tmp_path, source):
    recipe = _policy(alignment.ppo(str(source)), policy__baseline="group_mean")
    with pytest.raises(UserError, match="beside a critic"):
        stages.run(recipe, tmp_path / "run")


def test_what_was_prepared_for_another_stage_is_refused(tmp_path, source, preferring):
    recipe = _small(alignment.dpo(str(source)), dpo__kind="kto")
    recipe.data = alignment.ConfigDict({"prepared": str(preferring("dpo") / "data")})
    with pytest.raises(UserError, match="holds pairs, and this needs mismatched"):
        stages.run(recipe, tmp_path / "run")


@SLOW
def test_the_other_prompt_of_a_row_is_another(folder, preferring):
    """Pairs of one ranking stand side by side, and are not each other's strangers."""
    prepared = Prepared(preferring("kto") / "data")
    tokens, rows = prepared.split("train")
    for row in range(len(rows)):
        pieces = rows.pieces[rows.starts[row] : rows.starts[row + 1]]
        texts = [
            prepared.tokenizer.decode(
                np.asarray(tokens.shards[s][at : at + n])
            ).decode()
            for s, at, n in pieces
        ]
        assert len(set(texts)) == len(texts) == 4


@pytest.mark.slow
def test_the_system_turn_of_a_long_conversation_stays(tmp_path, source):
    """The first turns are left out, and no answer is longer than the model reads."""
    talk = [{"role": "system", "content": "Be brief."}]
    for number in range(9):
        talk.append({"role": "user", "content": f"number {number}?"})
        talk.append({"role": "assistant", "content": "yes"})
    path = tmp_path / "long.jsonl"
    rows = [
        {"messages": talk[:-1] + [{"role": "user", "content": f"{n}?"}]}
        | {"answers": ["well", "no"], "ranks": [1, 2]}
        for n in range(9)
    ]
    for row in rows:
        del row["messages"][-2]  # a user's turn follows an assistant's
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    stages.run(_preferring(alignment.dpo(str(source)), path), tmp_path / "run")
    prepared = Prepared(tmp_path / "run" / "data")
    tokens, _ = prepared.split("train")
    for shard, start, length in tokens.documents:
        text = prepared.tokenizer.decode(tokens.shards[shard][start : start + length])
        assert length <= made.ROW
        assert b"Be brief." in text and b"number 0?" not in text


def test_pairs_that_say_nothing_are_an_error(tmp_path, source):
    path = tmp_path / "same.jsonl"
    same = {"chosen": "same", "rejected": "same"}
    rows = [{"prompt": f"Is it {number}?", **same} for number in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for make in (alignment.reward, alignment.dpo):
        recipe = _preferring(make(str(source)), path)
        with pytest.raises(UserError, match="of the same text"):
            stages.run(recipe, tmp_path / recipe.stage)


def test_a_reference_without_the_tokens_of_a_chat(
    tmp_path, folder, source, preferences
):
    recipe = _preferring(alignment.dpo(str(folder / "base")), preferences)
    recipe.data.template = "chatml"
    with pytest.raises(UserError, match="learn to answer first"):
        stages.run(recipe, tmp_path / "run")
