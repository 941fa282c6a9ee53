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

STAGES = ("prepare", "pretrain", "evaluate")


def run(config: ConfigDict, workdir: Path) -> None:
    """Run what `config` asks for; finished stages are skipped."""
    if "stages" not in config:
        _run_stage(config, workdir)
        return
    directory.create(workdir)
    directory.write_atomic(workdir / "config.json", configs.to_json(config))
    for number, name in enumerate(config.stages, 1):
        print(f"[{number}/{len(config.stages)}] {name}", flush=True)
        section = config[name].copy_and_resolve_references()
        data = section.get("data", ConfigDict())
        if data.get("prepared") in config.stages:
            data.prepared = str(workdir / data.prepared)
        if section.get("source") in config.stages:
            section.source = str(workdir / section.source)
        _run_stage(section, workdir / name)


def _run_stage(config: ConfigDict, workdir: Path) -> None:
    if config.stage not in STAGES:
        raise UserError(f"no stage {config.stage!r}; stages: {', '.join(STAGES)}")
    importlib.import_module(f"genlm.stages.{config.stage}").run(config, workdir)
