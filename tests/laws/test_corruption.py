"""THE CORRUPTION LAW: a file of a checkpoint deleted, cut or flipped is noticed, said,
and the checkpoint before is used; without its manifest a step does not exist.
"""

from pathlib import Path
import shutil
import subprocess

import jax
import numpy as np
import pytest

from genlm.interop.run import open_run
from genlm.runs import checkpoint, lineage
from genlm.runs.saving import Checkpoints
from genlm.train import loop
from genlm.train.state import TrainState
from tests.command import contents, genlm
from tests.data_files import write_names


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run with checkpoints 1 and 2, and their pristine copy beside it."""
    folder = tmp_path_factory.mktemp("corruption")
    names = write_names(folder / "names.txt")
    _train(folder / "run", names)
    shutil.copytree(folder / "run" / "checkpoints", folder / "pristine")
    return folder / "run"


def _train(
    workdir: Path, names: Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    recipe, paths = (
        "experiments/pretrain_names.py:smoke",
        f"--config.data.paths={names}",
    )
    return genlm("run", recipe, "--workdir", workdir, paths, code=code)


def _files(run: Path) -> list[Path]:
    """Every file of the newest checkpoint, and its manifest, within checkpoints/."""
    root = run.parent / "pristine"
    files = sorted(p for p in (root / "2").rglob("*") if p.is_file())
    return [p.relative_to(root) for p in [*files, root / "2.0.json"]]


def _delete(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if not content:
        content = bytearray(b"\0")  # an empty file can only grow
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_delete, _cut, _flip])
def test_every_damaged_file_is_noticed(run: Path, damage, capsys):
    for name in _files(run):
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(run.parent / "pristine", run / "checkpoints")
        path = run / "checkpoints" / name
        before = path.read_bytes()
        damage(path)
        if path.exists() and path.read_bytes() == before:
            continue  # an empty file cut in half
        assert checkpoint.newest(run) == 1, f"{name} {damage.__name__}: not noticed"
        deleted_manifest = name.suffix == ".json" and not path.exists()
        said = capsys.readouterr().err
        assert deleted_manifest or "checkpoint 2 is damaged" in said
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(run.parent / "pristine", run / "checkpoints")
    assert checkpoint.newest(run) == 2


@pytest.mark.slow
def test_generation_falls_back_and_verify_names_the_file(run: Path):
    victim = next(n for n in _files(run) if "params" in n.parts and "d" in n.parts)
    _flip(run / "checkpoints" / victim)
    out = genlm("generate", "--from", run, "--prompt", "a", "--max-tokens", "2")
    assert "checkpoint 2 is damaged, not used" in out.stderr
    assert open_run(run).step == 1
    assert victim.name in genlm("verify", run, code=1).stderr


@pytest.mark.slow
def test_training_goes_on_from_the_one_before(run: Path, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints")
    shutil.copytree(run.parent / "pristine", again / "checkpoints")
    _flip(next(p for p in (again / "checkpoints" / "2").rglob("*") if p.stat().st_size))
    out = _train(again, run.parent / "names.txt")
    assert "from step 1" in out.stdout
    assert checkpoint.faults(again, 2) == []
    genlm("verify", again)


def test_a_run_of_which_nothing_is_whole_keeps_what_it_has(run: Path, tmp_path):
    again = shutil.copytree(run, tmp_path / "again")
    for path in (again / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size and "d" in path.parts:
            _flip(path)
    before = contents(again / "checkpoints")
    out = _train(again, run.parent / "names.txt", code=1)
    assert "none of its checkpoints is whole" in out.stderr
    assert contents(again / "checkpoints") == before


def test_what_was_read_is_verified_too(run: Path):
    data = run / "data"
    (name,) = lineage.read(data)["inputs"]
    source, line = Path(name), f"{name}: changed since it was read"
    before = source.read_bytes()
    assert lineage.faults(data) == []
    source.write_bytes(before + b"one more\n")
    assert lineage.faults(data) == [line]
    assert line in genlm("verify", run, code=1).stderr
    source.write_bytes(before)
    recorded = (data / "lineage.json").read_text()
    (data / "lineage.json").write_text(
        recorded.replace('"outputs": {', '"outputs": {"x": "y", ')
    )
    assert lineage.faults(run) == [f"{data}: changed since it was read"]
    (data / "lineage.json").write_text(recorded)


def test_an_unproven_checkpoint_does_not_exist(tmp_path):
    params = {"w": jax.numpy.arange(8.0)}
    state = TrainState(jax.numpy.asarray(4), params, (), jax.random.PRNGKey(0))
    with Checkpoints(
        tmp_path, start_step=0, keep_last=2, keep_best=False
    ) as checkpoints:
        checkpoints.save(4, loop.split(state))
        checkpoints.confirm(4)
        checkpoints.save(5, loop.split(state))  # no finite loss ever comes of it
    assert checkpoint.steps(tmp_path) == [4]
    assert checkpoint.newest(tmp_path) == 4


def test_the_last_few_and_the_best_are_kept(tmp_path):
    params = {"w": np.arange(8.0)}
    with Checkpoints(
        tmp_path, start_step=0, keep_last=2, keep_best=True
    ) as checkpoints:
        for step, loss in enumerate((3.0, 1.0, 2.0, 2.5, 2.6), 1):
            checkpoints.save(step, {"params": params, "state": params}, loss)
            checkpoints.confirm(step)
    assert checkpoint.steps(tmp_path) == [2, 4, 5]
    assert checkpoint.best(tmp_path) == 2


def test_one_every_so_many_steps_stays(tmp_path):
    params = {"w": np.arange(8.0)}
    with Checkpoints(
        tmp_path, start_step=0, keep_last=1, keep_best=False, keep_every=3
    ) as checkpoints:
        for step in range(1, 9):
            checkpoints.save(step, {"params": params, "state": params})
            checkpoints.confirm(step)
    assert checkpoint.steps(tmp_path) == [3, 6, 8]
