"""Small runs that tests of fine-tuning begin with, conversations and labelled texts."""

import itertools
import json
from pathlib import Path
from pydoc_data.topics import topics

from ml_collections import ConfigDict

from experiments import base
from genlm import stages
from genlm.data import synthetic
from tests.data_files import write_prose

ROW = 160  # tokens; conversations in bytes are about 80


def pretrained(folder: Path) -> Path:
    """A model of bytes, two steps old."""
    config = base.smoke(base.pretrain())
    config.data.row_length = ROW
    config.data.paths = str(write_prose(folder / "prose.txt", 20_000))
    config.data.document = "blank_line"
    stages.run(config, folder / "base")
    return folder / "base"


def questions(path: Path, count: int = 60) -> Path:
    """A file of `count` conversations, some of two questions."""
    found = itertools.islice(synthetic.read(docstring=0), count)
    rows = [json.dumps({"messages": each["messages"]}) for each in found]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def sft(source: Path, data: Path, **changes: object) -> ConfigDict:
    """A recipe of two steps; `changes` are of keys with __ for a dot."""
    config = base.smoke_training(base.finetune(str(source)))
    config.data.update({"paths": str(data), "row_length": ROW, "template": "chatml"})
    config.eval.update({"prompts": ("1 + 1 =",), "max_tokens": 4, "batch_size": 8})
    config.lora.targets = ("layers/attention/*", "layers/mlp/*")
    return changed(config, changes)


def labelled(path: Path, count: int = 40) -> Path:
    """A file of `count` texts of each of three classes: the titles, the first lines and
    the last lines of topics of Python's reference."""
    rows = []
    for name in sorted(topics)[:count]:
        lines = topics[name].strip().splitlines()
        found = {"title": name, "first": lines[0], "last": f"{name}: {lines[-1]}"}
        rows += [{"text": t, "label": label} for label, t in found.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def classify(source: str, data: Path, **changes: object) -> ConfigDict:
    """A recipe of two steps; `changes` as of `sft`."""
    config = base.smoke(base.classify(source))
    config.data.update({"paths": str(data), "row_length": ROW, "valid_fraction": 0.2})
    config.lora.targets = ("layers/attention/*", "layers/mlp/*")
    return changed(config, changes)


def changed(config: ConfigDict, changes: dict[str, object]) -> ConfigDict:
    for key, value in changes.items():
        *sections, name = key.split("__")
        node = config
        for section in sections:
            node = node[section]
        node[name] = value
    return config
