"""What was learnt and forgotten; a field with replay, and a student of a teacher."""

from pathlib import Path
import shutil

import numpy as np
import pytest

from experiments import base
from genlm import stages
from genlm.errors import UserError
from genlm.interop.run import open_run
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import directory, metrics, report
from genlm.stages import hooks, prepare
from genlm.stages.prepare import Prepared
from tests.stages import made

pytestmark = pytest.mark.slow  # each trains a model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("gain")


def text(folder: Path, name: str, words: list[str]) -> Path:
    """A prepared text of many short documents, as bytes."""
    random = np.random.default_rng(len(name))
    lines = [" ".join(random.choice(words, 12)) for _ in range(120)]
    file = folder / f"{name}.txt"
    file.write_text("\n".join(lines) + "\n")
    config = base.pretrain()
    config.data.update({"paths": str(file), "document": "line"})
    config.data.row_length = made.ROW
    config.stage = "prepare"
    prepare.run(config, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def life(folder: Path) -> Path:
    """A model of one text, trained on another with the first replayed and without."""
    general = text(folder, "general", "the a list of items is in order".split())
    field = text(folder, "field", "zebra quagga okapi gnu".split())
    config = base.smoke(base.pretrain())
    config.train.update({"num_steps": 40, "batch_size": 8})
    config.optimizer.update({"learning_rate": 3e-3, "warmup_steps": 2})
    config.eval.update({"eval_every": 0, "sample_every": 0})
    config.checkpoint.save_every = 40
    config.data = base.of_prepared(str(general))
    stages.run(config, folder / "base")
    config.source = str(folder / "base")
    config.data.prepared = str(field)
    stages.run(config, folder / "without")
    config.data.update({"replay": str(general), "replay_share": 0.5})
    stages.run(config, folder / "with_replay")
    runs = tuple(str(folder / name) for name in ("base", "with_replay", "without"))
    recipe = {"stage": "gain", "seed": 0, "runs": runs, "batch_size": 8}
    recipe["texts"] = (str(field), str(general))
    config = base.ConfigDict(recipe)
    stages.run(config, folder / "gain")
    stages.run(config, folder / "gain")  # is done
    return folder


def test_the_report_says_what_was_gained_and_forgotten(life: Path):
    page = report.page(life / "gain", lambda fields: 0)
    gain = directory.read_json(life / "gain" / "results.json")["gain"]
    assert page.count("Gained and forgotten") == 1
    for text, rows in gain.items():
        assert f"<h3>{text}</h3>" in page
        for row in rows[1:]:
            assert f"{row['bits_per_byte']['value']:.4f}" in page
            assert f"{row['change_percent']['value']:+.2f} %" in page


def test_replay_keeps_what_was_known(life: Path):
    gain = directory.read_json(life / "gain" / "results.json")["gain"]
    by_run = {text: {row["run"]: row for row in rows} for text, rows in gain.items()}
    learnt = {
        run: row["change_percent"]["value"] for run, row in by_run["field"].items()
    }
    forgot = {
        run: row["change_percent"]["value"] for run, row in by_run["general"].items()
    }
    assert learnt["base"] == forgot["base"] == 0
    assert learnt["without"] < -20 and learnt["with_replay"] < -20
    assert forgot["with_replay"] < forgot["without"]
    for rows in gain.values():
        for row in rows:
            level = row["bits_per_byte"]
            assert level["low"] <= level["value"] <= level["high"]


def test_bits_are_those_of_validation(life: Path):
    gain = directory.read_json(life / "gain" / "results.json")["gain"]
    prepared, opened = Prepared(life / "general"), open_run(life / "base")
    mesh = meshes.make(meshes.MeshConfig())
    with sharding.laid_out(mesh):
        validate = hooks.make_validation(prepared, opened.config, 8, mesh)
        bits = validate(opened.params)["valid_bits_per_byte"]
    assert np.isclose(gain["general"][0]["bits_per_byte"]["value"], bits, rtol=1e-5)


def test_texts_of_one_name_are_two(life: Path, tmp_path: Path):
    other = tmp_path / "general"
    shutil.copytree(life / "field", other)
    runs = tuple(str(life / name) for name in ("base", "without"))
    recipe = {"stage": "gain", "seed": 0, "runs": runs, "batch_size": 8}
    recipe["texts"] = (str(life / "general"), str(other))
    stages.run(base.ConfigDict(recipe), tmp_path / "gain")
    gain = directory.read_json(tmp_path / "gain" / "results.json")["gain"]
    assert set(gain) == {str(life / "general"), str(other)}


def student(life: Path, **changes: object):
    config = base.smoke(base.pretrain())
    config.stage = "distill"
    config.data = base.of_prepared(str(life / "general"))
    with config.unlocked():
        config.teacher = str(life / "base")
        config.distill = {"direction": "forward", "share": 1.0, "temperature": 1.0}
    config.model.update({"model_dim": 16, "mlp_dim": 32, "num_layers": 1})
    config.optimizer.update({"learning_rate": 1e-2, "warmup_steps": 2})
    config.train.update({"num_steps": 60, "batch_size": 8})
    config.eval.update({"eval_every": 60, "sample_every": 0})
    config.checkpoint.save_every = 60
    for key, value in changes.items():
        section, _, name = key.partition("__")
        config[section][name] = value
    return config


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_student_comes_near_its_teacher(life: Path, direction: str):
    name = f"student_{direction}"
    stages.run(student(life, distill__direction=direction), life / name)
    rows = [r for r in metrics.read(life / name / "metrics.jsonl") if "kl" in r]
    assert rows[-1]["kl"] < 0.3 * rows[0]["kl"]
    assert open_run(life / name).config.num_layers == 1


MISTAKES = {
    "direction": ({"distill__direction": "back"}, "distill.direction is none of"),
    "share": ({"distill__share": 0.0}, "distill.share is in"),
    "replay": (
        {"data__replay": "general", "data__replay_share": 0.5},
        "data.replay is not for this stage",
    ),
    "z": ({"train__z_loss": 1e-4}, "train.z_loss is 0.0001, and this stage does not"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_said(life: Path, tmp_path: Path, name: str):
    changes, words = MISTAKES[name]
    with pytest.raises(UserError, match=words):
        stages.run(student(life, **changes), tmp_path / "run")
