"""RE-RUNS: a command given again goes on where it stopped, and never mixes two runs."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.runs import directory, lineage

_OURS = (  # what no stage makes before its config.json
    "checkpoints tokens tokenizer model.json lineage.json metrics.jsonl results.json"
).split()
# compared by content, not by path
_INPUTS = tuple(
    "data.prepared data.replay tokenizer.source source teacher base runs texts".split()
)


def check_kind(config: ConfigDict, workdir: Path) -> None:
    """Make sure that `workdir` is free, or holds what `config` makes.

    Raises:
      UserError: it holds a life and this is one stage, or the other way round, or
        what another program made.
    """
    before = _config_before(workdir)
    if before is None:
        for name in _OURS:
            if (workdir / name).exists():
                raise UserError(
                    f"{workdir} has {name}, and no config.json of a run that made it;"
                    " take another --workdir"
                )
        return
    kinds = [_kind(before), _kind(config)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{workdir}/config.json is of {kinds[0]}, this is {kinds[1]};"
            " take another --workdir"
        )


def _kind(config: ConfigDict) -> str:
    if "stages" in config:
        return "a life of several stages"
    return f"a {config.stage} stage" if "stage" in config else "another program"


def check_life(config: ConfigDict, workdir: Path) -> None:
    """Make sure that the stages done in `workdir` were done with these settings.

    Raises:
      UserError: one was not (names the key).
    """
    check_kind(config, workdir)
    before = _config_before(workdir) or ConfigDict()
    for name in config.stages:
        if name in before and _has_work(workdir / name):
            _same_settings(workdir, before[name], config[name], f"{name}.")


def check_copy(config: ConfigDict, place: str, there: str | None) -> None:
    """Make sure that the copy of a run at `place`, whose config is the JSON `there`, is
    of this one, before anything is read or written.

    Raises:
      UserError: it is another's.
    """
    if there is None:
        return
    try:
        before = configs.from_json(there)
    except ValueError as error:
        raise UserError(f"cannot read {place}/config.json ({error})") from error
    _same_settings(Path(place), before, config)


def is_finished(
    config: ConfigDict, workdir: Path, inputs: dict[str, Any], renew: bool = False
) -> bool:
    """Whether the stage has nothing left to do in `workdir`.

    Args:
      renew: the work is done again where its inputs stand at the same paths and have
        gone on since, such as a run that was trained for longer.

    Raises:
      UserError: the directory holds work from other settings or inputs (names them).
    """
    if not _has_work(workdir):
        return False
    before = _config_before(workdir)
    if before is None:
        raise UserError(
            f"{workdir} holds work and no config.json; take another --workdir"
        )
    _same_settings(workdir, before, config)
    old = lineage.read(workdir)
    if old:
        was, now = (
            {name: entry["sha256"] for name, entry in side.items()}
            for side in (old["inputs"], inputs)
        )
        if renew and set(was) == set(now) and was != now:
            return False
        _same_inputs(workdir, old["inputs"], inputs)
    return bool(old.get("outputs"))


def _config_before(workdir: Path) -> ConfigDict | None:
    """The config that `workdir` was begun with."""
    saved = workdir / "config.json"
    if not saved.exists():
        return None
    try:
        return configs.from_json(saved.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {saved} ({error}); take another --workdir"
        ) from error


def _has_work(workdir: Path) -> bool:
    """Whether a stage was finished there, or has a checkpoint."""
    if lineage.read(workdir).get("outputs"):
        return True
    if not (workdir / "checkpoints").exists():
        return False
    from genlm.runs import checkpoint  # loads jax, which preparing text does without

    return bool(checkpoint.steps(workdir))


def _same_settings(
    workdir: Path, before: ConfigDict, config: ConfigDict, prefix: str = ""
) -> None:
    changed = [k for k in configs.differences(before, config) if not _may_change(k)]
    if changed:
        a, b = configs.flatten(before), configs.flatten(config)
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
        raise UserError(
            f"{workdir} holds a run with {prefix}{key}={a.get(key)!r}, now"
            f" {b.get(key)!r}{more}; take another --workdir, or delete it"
        )


def save_config(config: ConfigDict, workdir: Path) -> None:
    """Write config.json, the settings that the directory now holds work from."""
    directory.write_atomic(workdir / "config.json", configs.to_json(config))


def save_life(config: ConfigDict, workdir: Path) -> None:
    """Write config.json of a life, of which `config` may name some stages only: the
    others stay as they were."""
    before = _config_before(workdir)
    whole = config.copy_and_resolve_references()
    if before is not None:
        others = [name for name in before.stages if name not in config.stages]
        with whole.ignore_type(), whole.unlocked():
            for name in others:
                whole[name] = before[name]
            if others:  # in their order, and what is new after them
                new = [name for name in config.stages if name not in before.stages]
                whole.stages = (*before.stages, *new)
    save_config(whole, workdir)


def _may_change(key: str) -> bool:
    return (
        key.endswith(("num_steps", "_every", "train.watch", "profile_steps", "copy_to"))
        or key.startswith(("parallel.", "guard."))
        or key in _INPUTS
    )


def _same_inputs(workdir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    hashes = {e["sha256"]: name for name, e in old.items()}
    for name, entry in new.items():
        if entry["sha256"] not in hashes:
            raise UserError(
                f"{workdir} was made from another {name}; take another --workdir, or"
                " delete it"
            )
    if len(new) < len(old):
        gone = sorted(set(old) - set(new)) or sorted(old)
        raise UserError(
            f"{workdir} was made with {gone[0]} too; take another --workdir, or"
            " delete it"
        )
