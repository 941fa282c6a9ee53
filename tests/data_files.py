"""Real text that tests train on: what every Python carries, and a folder of data sets
where there is one (GENLM_TEST_DATA names it).
"""

import os
from pathlib import Path
from pydoc_data.topics import topics
import re

import pytest

ROOT = Path(__file__).resolve().parents[1]


def write_names(path: Path, count: int = 600) -> Path:
    """A file of `count` different words, one a line."""
    words = sorted(set(re.findall(r"[a-z]{3,12}", " ".join(topics.values()))))
    path.write_text("\n".join(words[:count]) + "\n", "utf-8")
    return path


def write_prose(path: Path, num_bytes: int = 60_000) -> Path:
    """A file of prose, one text of about `num_bytes`."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    path.write_text(text[:num_bytes], "utf-8")
    return path


def shared(name: str) -> Path:
    """A file or folder of the data sets; the test is skipped where it is not there."""
    path = found(name)
    if path is None:
        pytest.skip(f"no {name}: set GENLM_TEST_DATA to the folder that holds it")
    return path


def found(name: str) -> Path | None:
    """A file or folder of the data sets, where there is one."""
    folder = os.environ.get("GENLM_TEST_DATA") or ROOT.parent / "shared" / "data"
    path = Path(folder, name)
    return path if path.exists() else None
