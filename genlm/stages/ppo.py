"""PPO: a policy and its critic learn from the policy's own answers.

Before: sft, prompts, and a reward (config.reward). After: chat, evaluate; the critic is
saved with the policy, as a head of it (arXiv:1707.06347, arXiv:2203.02155).
"""

from pathlib import Path

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.posttrain.critic import CriticConfig
from genlm.stages import align

READS = (*align.READS, "critic")


def read(config: ConfigDict) -> align.Aims:
    """What this stage reads of a config; a wrong value is an error now."""
    return align.read(config, configs.to_dataclass(CriticConfig, config.critic))


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    align.run(config, workdir, read(config))
