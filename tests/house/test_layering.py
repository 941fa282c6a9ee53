"""Who may import whom: the table of docs/design.md, held to the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS: dict[str, set[str]] = {
    "config": set(),
    "parallel": set(),
    "tokenizer": set(),
    "runs": {"parallel"},
    "model": {"parallel"},
    "data": {"tokenizer"},
    "train": {"model", "parallel", "runs"},
    "inference": {"model", "parallel"},
    "evaluate": {"train", "inference", "data", "model", "tokenizer", "runs"},
    "posttrain": {"train", "inference", "model", "evaluate"},
    "retrieval": {"inference", "model", "data", "tokenizer"},
    "interop": {"model", "data", "tokenizer", "runs", "parallel"},
}
ROOMS["stages"] = set(ROOMS)
ROOMS["cli"] = set(ROOMS)
NO_JAX = ("config", "tokenizer", "data", "errors")
CONFIG_DICT = ("config", "stages", "cli")


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "genlm").parts[0].removesuffix(".py")


def _imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports, `from a import b` as a.b."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _files() -> list[Path]:
    return sorted((ROOT / "genlm").rglob("*.py"))


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path):
    room = _room(path)
    if room == "__init__":
        return
    for name in _imports(path):
        first, _, rest = name.partition(".")
        assert first not in ("experiments", "notebooks", "tests", "benchmarks"), name
        other = rest.split(".")[0]
        if first != "genlm" or other in (room, "errors", "__version__", ""):
            continue
        assert room != "errors", "errors imports nothing"
        assert other in ROOMS[room], f"{path}: {room} may not import {other}"


def test_ml_collections_stays_above():
    for path in _files():
        if _room(path) not in CONFIG_DICT:
            assert not any(n.startswith("ml_collections") for n in _imports(path)), path


def test_no_jax_where_text_is_prepared():
    for path in _files():
        if _room(path) in NO_JAX:
            loaded = {n.split(".")[0] for n in _imports(path, top_level_only=True)}
            assert not loaded & {"jax", "flax", "optax", "orbax", "grain"}, path


def test_the_command_imports_inside_its_verbs():
    for path in (ROOT / "genlm" / "cli").glob("*.py"):
        for name in _imports(path, top_level_only=True):
            assert not name.startswith("genlm.") or name.startswith(
                ("genlm.errors", "genlm.cli")
            ), f"{path} imports {name} at its top"


def test_every_room_is_in_the_table():
    rooms = {_room(p) for p in _files()} - {"__init__", "errors"}
    assert rooms == set(ROOMS)
