"""Real text that tests train on, made from what every Python carries."""

from pathlib import Path
from pydoc_data.topics import topics
import re


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
