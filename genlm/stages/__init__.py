"""ONE FILE A STAGE; here is how a config names the stages it wants.

A config with `stage` is one stage, run in the workdir. A config with `stages` is a
life: each named section is a stage config, run in order in workdir/<name>; where such
a section's `data.prepared` names an earlier stage, it means that stage's directory.
"""

import importlib
from pathlib import Path

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.runs import directory
from genlm.stages import rerun

STAGES = ("prepare", "pretrain", "evaluate")


def run(config: ConfigDict, workdir: Path) -> None:
    """Run what `config` asks for; finished stages are skipped.

    Raises:
      UserError: `workdir` holds something else, or a stage says what is wrong.
    """
    if "stages" not in config:
        _check(config)
        rerun.check_kind(config, workdir)
        _run_stage(config, workdir)
        return
    for name in config.stages:
        if not isinstance(config.get(name), ConfigDict):
            raise UserError(f"'stages' names {name!r}, and there is no such section")
        _check(config[name])
    directory.create(workdir)
    rerun.check_life(config, workdir)
    rerun.save_config(config, workdir)
    for number, name in enumerate(config.stages, 1):
        print(f"[{number}/{len(config.stages)}] {name}", flush=True)
        section = config[name].copy_and_resolve_references()
        data = section.get("data", ConfigDict())
        if data.get("prepared") in config.stages:
            data.prepared = str(workdir / data.prepared)
        if section.get("source") in config.stages:
            section.source = str(workdir / section.source)
        _run_stage(section, workdir / name)


def _check(config: ConfigDict) -> None:
    """Make sure that `config` is of a stage and has what every stage reads."""
    if config.get("stage") not in STAGES:
        name = config.get("stage")
        raise UserError(f"no stage {name!r}; stages: {', '.join(STAGES)}")
    seed = config.get("seed")
    if type(seed) is not int or not 0 <= seed < 1 << 31:
        raise UserError(f"seed {seed!r} is not a number from 0 to 2147483647")


def _run_stage(config: ConfigDict, workdir: Path) -> None:
    stage = importlib.import_module(f"genlm.stages.{config.stage}")
    configs.require(config, stage.READS)
    stage.run(config, workdir)
