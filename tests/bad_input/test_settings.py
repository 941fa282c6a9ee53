"""Mistakes in a recipe, its overrides and the command line."""

from pathlib import Path

import pytest

from tests.bad_input.recipes import NAMES, PREPARE_ONLY
from tests.command import contents, genlm, mistake

CONFIGS = {
    "missing": (None, ["no config file", "recipe.py"]),
    "not Python": ("def get_config(arg=''):\n    return (\n", ["recipe.py line 2"]),
    "no function": ("x = 1\n", ["recipe.py", "no get_config"]),
    "fails": (
        "def get_config(arg=''):\n    return 1 / 0\n",
        ["recipe.py line 2", "zero"],
    ),
    "fails at its top": (
        "import nothing_like_it\n",
        ["recipe.py line 1", "nothing_like"],
    ),
    "takes no argument": ("def get_config(): return 1\n", ["recipe.py", "argument"]),
    "not a config": ("def get_config(arg=''): return {}\n", ["dict", "ConfigDict"]),
    "no stage": (
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''): return ConfigDict({'stage': 'pretrian', 'seed': 0})\n",
        ["pretrian", "prepare, pretrain"],
    ),
    "no such section": (
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''): return ConfigDict({'stages': ('prepare',)})\n",
        ["prepare", "no such section"],
    ),
    "lacks a section": (
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''): return ConfigDict({'stage': 'prepare', 'seed': 0})\n",
        ["lacks data"],
    ),
    "lacks a key": (PREPARE_ONLY.replace('"seed": 0, ', ""), ["seed"]),
    "a value of another type": (
        PREPARE_ONLY.replace("whole.data.to_dict()", "{'row_length': '32'}"),
        ["DataConfig", "lacks"],
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_file(name: str, tmp_path: Path):
    text, words = CONFIGS[name]
    if text is not None:
        (tmp_path / "recipe.py").write_text(text)
    line = mistake("run", tmp_path / "recipe.py", "--workdir", tmp_path / "run")
    assert all(word in line for word in words), line
    assert contents(tmp_path / "run") == {}


def test_config_file_has_a_name_like_another():
    line = mistake("run", "experiments/lif.py", "--workdir", "/nowhere")
    assert "no config file experiments/lif.py" in line and "life.py" in line


def test_config_argument(tmp_path: Path):
    line = mistake("run", "experiments/life.py:smok", "--workdir", tmp_path / "run")
    assert "experiments/life.py" in line and "'smok'" in line and "smoke" in line


OVERRIDES = {
    "--config.train.num_step=3": "did you mean 'num_steps'?",
    "--config.trian.num_steps=3": "did you mean 'train'?",
    "--config.train=3": "its keys: balance_loss, batch_size, ema_decay",
    "--config.train.num_steps.x=3": "'num_steps' is a value, not a section",
    "--config.train.num_steps=three": "expected int, like 2",
    "--config.train.num_steps=1.5": "expected int, like 2",
    "--config.train.num_steps=": "expected int, like 2",
    "--config.optimizer.learning_rate=nan": "expected float, like 0.003",
    "--config.data.clean=perhaps": "expected bool, like True",
    "--config.train.num_steps": "write --config.section.key=value",
    "--train.num_steps=3": "write --config.section.key=value",
    "train.num_steps=3": "write --config.section.key=value",
    "--config.seed=-1": "seed -1",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_override(override: str, tmp_path: Path):
    line = mistake("run", NAMES, "--workdir", tmp_path / "run", override)
    assert OVERRIDES[override] in line and override.split("=")[0].split(".")[-1] in line
    assert contents(tmp_path / "run") == {}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", NAMES], "--workdir"),
        (["run"], "config"),
        (["generate"], "--from"),
        (["generate", "--from", "x", "--max-tokens", "many"], "'many'"),
        (["verify", "x", "--quick"], "--quick"),
        (["verfy", "x"], "'verify'"),
        ([], "VERB"),
    ],
)
def test_command_line(arguments: list[str], words: str):
    said = genlm(*arguments, code=2).stderr
    assert said.count("\n") == 1 and words in said and "--help" in said, said


VALUES = {
    "optimizer.name=adam": "optimizer.name is one of",
    "optimizer.schedule=cosin": "optimizer.schedule is one of",
    "optimizer.rules=embeding rate=1": "'embeding rate=1': matches none of",
    "optimizer.decay_fraction=0": "decay_fraction is in (0, 1]",
    "train.profile_steps=5": "profile_steps is not a first and a last step",
    "train.profile_steps=5,3": "profile_steps is not a first and a last step",
    "train.ramp_from=3": "ramp_from 3 does not double into batch_size",
    "train.probe_every=-1": "probe_every is below 0",
    "train.ema_decay=1": "train.ema_decay is not in [0, 1)",
    "train.z_loss=-1": "z_loss is below 0",
    "checkpoint.keep_every=-1": "keep_every -1 is not a multiple",
    "model.num_kv_heads=3": "multiple of num_kv_heads",
    "model.num_kv_heads=0": "num_kv_heads",
    "model.head_dim=15": "head_dim is even",
    "model.activation=swish": "swiglu",
    "model.dtype=float64": "bfloat16",
    "model.remat=some": "dots",
    "model.dropout=1.0": "[0, 1)",
    "model.model_dim=-32": "model.model_dim is not positive",
    "model.mlp_dim=0": "model.mlp_dim is not positive",
    "model.num_layers=0": "model.num_layers is not positive",
    "model.rope_theta=0": "rope_theta",
    "train.num_steps=0": "train.num_steps",
    "train.num_steps=3000000000": "train.num_steps 3000000000 is over 2147483647",
    "train.profile_steps=0,5": "train.profile_steps is not",
    "train.z_loss=1e999": "z_loss is inf",
    "train.batch_size=-4": "train.batch_size",
    "train.num_microbatches=0": "train.num_microbatches",
    "train.num_microbatches=3": "microbatches",
    "train.vocab_chunk=-1": "train.vocab_chunk",
    "train.log_every=0": "train.log_every",
    "eval.batch_size=0": "eval.batch_size",
    "eval.max_tokens=0": "eval.max_tokens",
    "eval.top_p=0": "top_p",
    "eval.temperature=-1": "temperature",
    "eval.eval_every=-1": "eval.eval_every",
    "eval.prompts=()": "eval.prompts",
    "eval.prompts=a,\udcff": "eval.prompts '\\udcff' is not UTF-8",
    "checkpoint.save_every=0": "checkpoint.save_every",
    "guard.stall_seconds=1e10": "guard.stall_seconds is over a year",
    "guard.disk_seconds=1e999": "disk_seconds is inf",
    "optimizer.rules=* rate=1e999": "rate=1e999",
    "optimizer.epsilon=1e999": "epsilon is inf",
    "optimizer.learning_rate=-1": "optimizer.learning_rate",
    "optimizer.warmup_steps=-1": "warmup_steps",
    "optimizer.beta2=1": "beta2",
    "parallel.data=3": "devices",
    "parallel.tensor=0": "devices",
    "parallel.fsdp=-1": "devices",
    "data.valid_fraction=0": "data.valid_fraction",
    "data.row_length=0": "data.row_length",
}


@pytest.mark.parametrize("setting", VALUES)
def test_value(setting: str, run: Path, tmp_path: Path, mistake_here):
    workdir = tmp_path / "run"
    arguments = ["run", NAMES, "--workdir", workdir, f"--config.{setting}"]
    if not setting.startswith("data."):
        arguments += [f"--config.data.prepared={run / 'data'}"]
    assert VALUES[setting] in mistake_here(*arguments)
    assert contents(workdir) == {}


LIFE = {
    "evaluate.source=pretrian": "no earlier stage (prepare, pretrain)",
    "pretrain.data.prepared=evaluate": "no earlier stage (prepare)",
    "evaluate.checkpoint=bst": "'last', 'best', a step or 'mean:K'",
    "evaluate.order=-1": "order -1",
    "evaluate.eval.top_p=0": "top_p",
    "evaluate.eval.eval_every=9": "no key 'eval_every'",
    "pretrain.model.num_layers=0": "model.num_layers",
    "pretrain.seed=4294967296": "seed 4294967296",
}


@pytest.mark.parametrize("setting", LIFE)
def test_value_of_a_life_shows_before_its_first_stage(
    setting: str, tmp_path: Path, mistake_here
):
    command = ["run", "experiments/life.py:smoke", "--workdir", tmp_path / "life"]
    assert LIFE[setting] in mistake_here(*command, f"--config.{setting}")
    assert contents(tmp_path / "life") == {}
