"""ONE FILE A STAGE; here is how a config names the stages it wants.

A config with `stage` is one stage, run in the workdir. A config with `stages` is a
life: each named section is a stage config, run in order in workdir/<name>; where such
a section's `data.prepared`, `source`, `runs` and the like name an earlier stage, they
mean that stage's directory. A stage module has READS (what must stand in its config),
read(config), which checks every value, and run(config, workdir).
"""

import contextlib
import importlib
import os
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.runs import directory
from genlm.stages import rerun

STAGES = tuple(
    "prepare pretrain sft classify embed distill reward dpo grpo ppo best_of evaluate"
    " gain fit check import_model answer online_dpo".split()
)


def run(config: ConfigDict, workdir: Path) -> None:
    """Run what `config` asks for; finished stages are skipped.

    Raises:
      UserError: `workdir` holds something else, or a stage says what is wrong.
    """
    if os.environ.get("JAX_COORDINATOR_ADDRESS"):
        _run_together(config, workdir)
        return
    if "stages" not in config:
        stage = checked(config)
        rerun.check_kind(config, workdir)
        with directory.held(workdir):
            stage.run(config, workdir)
        return
    sections = [_section(config, name, workdir) for name in config.stages]
    stages = [checked(section) for section in sections]
    with directory.held(workdir):
        rerun.check_life(config, workdir)
        rerun.save_life(config, workdir)
        for i, (name, stage) in enumerate(zip(config.stages, stages)):
            print(f"[{i + 1}/{len(stages)}] {name}", flush=True)
            with directory.held(workdir / name):
                rerun.check_kind(sections[i], workdir / name)
                stage.run(sections[i], workdir / name)


def _run_together(config: ConfigDict, workdir: Path) -> None:
    """Run a training as one of several processes; the first holds the folder."""
    if config.get("stage") != "pretrain":
        raise UserError(
            "several processes train one pretrain stage; run what comes before and"
            " after it in one process"
        )
    from genlm.parallel import hosts  # loads jax

    stage = checked(config)
    hosts.setup()
    rerun.check_kind(config, workdir)
    hosts.meet("the folder is ours")
    holding = directory.held(workdir) if hosts.is_first() else contextlib.nullcontext()
    with hosts.quiet_but_first(), holding:
        stage.run(config, workdir)
        hosts.meet("all is written")


def _section(config: ConfigDict, name: str, workdir: Path) -> ConfigDict:
    """The config of a stage, with the directory of each earlier one that it names."""
    if not isinstance(config.get(name), ConfigDict):
        raise UserError(f"'stages' names {name!r}, and there is no such section")
    section = config[name].copy_and_resolve_references()
    earlier = config.stages[: config.stages.index(name)]

    def place(key: str, value: str) -> str:
        if value.partition("/")[0] in earlier:  # a stage, or a folder in one
            return str(workdir / value)
        if value and not Path(value).is_dir():
            raise UserError(
                f"{name}: {key} is {value!r}, no earlier stage"
                f" ({', '.join(earlier) or 'there is none'}) and no directory"
            )
        return value

    places = (
        (section.get("data", ConfigDict()), "prepared"),
        (section.get("data", ConfigDict()), "replay"),
        (section.get("tokenizer", ConfigDict()), "source"),
        (section, "source"),
        (section, "teacher"),
        (section, "base"),
    )
    for node, key in places:
        if key in node:
            node[key] = place(key, node[key])
    data = section.get("data", ConfigDict())
    for key in ("paths", "valid_paths"):  # a file that an earlier stage has written
        if str(data.get(key, "")).partition("/")[0] in earlier:
            data[key] = str(workdir / data[key])
    several = (
        (section, "runs"),
        (section, "texts"),
        (section.get("reward", ConfigDict()), "models"),
    )
    for node, key in several:
        if key in node:
            node[key] = tuple(place(key, value) for value in node[key])
    return section


def checked(config: ConfigDict) -> ModuleType:
    """The module of the stage; every value of its config was looked at, so that a wrong
    one is an error now, and not after the stages before it."""
    name, seed = config.get("stage"), config.get("seed")
    if name not in STAGES:
        raise UserError(f"no stage {name!r}; stages: {', '.join(STAGES)}")
    if type(seed) is not int or not 0 <= seed < 1 << 31:
        raise UserError(f"seed {seed!r} is not a number from 0 to 2147483647")
    stage = importlib.import_module(f"genlm.stages.{name}")
    configs.require(config, stage.READS)
    stage.read(config)
    return stage
