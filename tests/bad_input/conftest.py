"""What the tests of mistakes share: a text, a recipe that is quick to fail, and one run
that nobody may change."""

from pathlib import Path
import shutil

import pytest

from tests.bad_input.recipes import NAMES, PREPARE_ONLY
from tests.command import genlm
from tests.data_files import write_names


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bad_input")


@pytest.fixture(scope="session")
def names(folder: Path) -> Path:
    return write_names(folder / "names.txt")


@pytest.fixture(scope="session")
def prepare_only(folder: Path) -> Path:
    path = folder / "prepare_only.py"
    path.write_text(PREPARE_ONLY)
    return path


@pytest.fixture(scope="session")
def run(folder: Path, names: Path) -> Path:
    """A finished run that all tests share, and leave as it is."""
    workdir = folder / "run"
    genlm("run", NAMES, "--workdir", workdir, f"--config.data.paths={names}")
    return workdir


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return shutil.copytree(run, tmp_path / "copy")
