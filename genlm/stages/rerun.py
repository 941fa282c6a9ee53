"""RE-RUNS: a command given again goes on where it stopped, and never mixes two runs."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.runs import checkpoint, directory, lineage

_INPUTS = ("data.prepared", "source")  # compared by content, not by path


def is_finished(config: ConfigDict, workdir: Path, inputs: dict[str, Any]) -> bool:
    """Whether the stage has nothing left to do in `workdir`.

    Raises:
      UserError: the directory holds work from other settings or inputs (names them).
    """
    saved = workdir / "config.json"
    old = lineage.read(workdir)
    if not saved.exists() or not (old.get("outputs") or checkpoint.steps(workdir)):
        return False
    before = ConfigDict(configs.from_json(saved.read_text("utf-8")))
    changed = [k for k in configs.differences(before, config) if not _may_change(k)]
    if changed:
        a, b = configs.flatten(before), configs.flatten(config)
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
        raise UserError(
            f"{workdir} holds a run with {key}={a.get(key)!r}, now"
            f" {b.get(key)!r}{more}; take another --workdir, or delete it"
        )
    if old:
        _same_inputs(workdir, old["inputs"], inputs)
    return bool(old.get("outputs"))


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Write config.json, the settings that the directory now holds work from."""
    directory.write_atomic(workdir / "config.json", configs.to_json(config))


def _may_change(key: str) -> bool:
    return (
        key.endswith(("num_steps", "_every"))
        or key.startswith("parallel.")
        or key in _INPUTS
    )


def _same_inputs(workdir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    hashes = {e["sha256"]: name for name, e in old.items()}
    for name, entry in new.items():
        if entry["sha256"] not in hashes:
            raise UserError(
                f"{workdir} was made from another {name}; take another --workdir"
            )
    if len(new) < len(old):
        gone = sorted(set(old) - set(new)) or sorted(old)
        raise UserError(
            f"{workdir} was made with {gone[0]} too; take another --workdir"
        )
