"""House rules that a reader would otherwise have to keep in mind."""

import importlib
from pathlib import Path
import re
import subprocess

import pytest

from genlm import stages

ROOT = Path(__file__).resolve().parents[2]
CODE = ("genlm", "experiments", "benchmarks", "tests")
VAGUE = re.compile(r"^(utils?|common|helpers?|misc)$|_lib$")


def _python_files() -> list[Path]:
    return sorted(p for room in CODE for p in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize(
    "path", _python_files(), ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_file_is_one_subject_with_a_name(path: Path):
    assert not VAGUE.search(path.stem), "a name that says nothing"
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400, "a file past 400 lines holds two subjects"
    if text.strip():
        assert text.startswith('"""'), "no docstring that says what is here"


def test_the_readme_tree_is_the_disk():
    """The tree of README.md names every room and file that git holds, and no other."""
    readme = (ROOT / "README.md").read_text("utf-8")
    tree = readme.split("<!-- tree -->")[1]
    told = set(re.findall(r"^ *([\w./-]+/?)  ", tree, re.MULTILINE))
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    top = {t.split("/")[0] + ("/" if "/" in t else "") for t in tracked}
    top -= {t for t in top if t.startswith(".")}
    rooms = {
        f"genlm/{t.split('/')[1]}/" for t in tracked if re.match(r"genlm/\w+/\w", t)
    }
    files = {t for t in tracked if re.match(r"genlm/\w+\.py$", t)} - {
        "genlm/__init__.py"
    }
    assert told == top | rooms | files


def test_nothing_names_a_machine():
    """No absolute path of somebody's machine in what is committed."""
    for path in [*_python_files(), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*")]:
        if path.suffix in (".py", ".md", ".svg") and path != Path(__file__):
            found = re.search(r"/(home|Users|root|work)/\w+", path.read_text("utf-8"))
            assert not found, f"{path}: {found and found.group()}"


def test_the_patches_of_the_documentation_apply():
    patches = [
        block
        for page in sorted((ROOT / "docs").glob("*.md"))
        for block in re.findall(
            r"^```diff\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    ]
    assert len(patches) >= 6
    for patch in patches:
        said = subprocess.run(
            ["git", "apply", "--check", "-"],
            cwd=ROOT,
            input=patch,
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, f"{said.stderr}\n{patch}"


def test_the_documentation_says_what_each_stage_reads():
    text = (ROOT / "docs" / "configs.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| ((?:`[\w.]+` ?)+)\|$", text, re.M))
    for name in stages.STAGES:
        reads = importlib.import_module(f"genlm.stages.{name}").READS
        assert sorted(reads) == sorted(re.findall(r"[\w.]+", rows[name])), name
