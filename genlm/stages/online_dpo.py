"""ONLINE DPO: direct preference, on pairs of the policy's own answers.

Before: sft, prompts, and a reward (config.reward): graders, or the models of the stage
reward, whose scores say how likely one answer is preferred. After: chat, evaluate.
"""

from pathlib import Path

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.posttrain.online import OnlineConfig
from genlm.stages import align

READS = (*(name for name in align.READS if name != "policy"), "online")


def read(config: ConfigDict) -> align.Aims:
    """What this stage reads of a config; a wrong value is an error now."""
    return align.read(config, online=configs.to_dataclass(OnlineConfig, config.online))


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    align.run(config, workdir, read(config))
