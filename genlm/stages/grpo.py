"""GRPO: a policy learns from groups of its own answers, each against the others.

Before: sft, prompts, and a reward (config.reward). After: chat, evaluate. What papers
call GRPO, Dr. GRPO, DAPO, GSPO, RLOO and REINFORCE++ are choices in config.policy
(posttrain.policy); docs/alignment.md has a table of them.
"""

from pathlib import Path

from ml_collections import ConfigDict

from genlm.stages import align

READS = align.READS


def read(config: ConfigDict) -> align.Aims:
    """What this stage reads of a config; a wrong value is an error now."""
    return align.read(config)


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    align.run(config, workdir, read(config))
