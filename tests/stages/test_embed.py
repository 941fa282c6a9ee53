"""The stage that trains vectors, and the verb that shows them."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import base
from genlm import stages
from genlm.cli.__main__ import main
from genlm.errors import UserError
from genlm.interop.run import open_run
from genlm.retrieval import embed
from genlm.retrieval.embed import Pooling
from genlm.runs import lineage, metrics
from genlm.stages import vectors
from tests.stages import made

pytestmark = pytest.mark.slow  # each trains a model


WORDS = ("red", "green", "blue", "north", "south", "east", "west", "seven")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("embed")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return made.pretrained(folder)


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """Each word is asked for in many ways: a pattern that two layers can learn."""
    rows = [
        {"query": f"{ask} {word}?", "passage": f"{word} is {what}", "word": word}
        for word in WORDS
        for what in ("here", "there")
        for ask in ("find", "where is")
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def recipe(source: Path, data: Path, **changes):
    config = base.embed(str(source))
    config.data.update({"paths": str(data), "valid_fraction": 0.3})
    config.embed.update({"sizes": (0, 8), "query_length": 24, "passage_length": 16})
    config.optimizer.update({"learning_rate": 3e-3, "warmup_steps": 1})
    config.train.update({"num_steps": 2, "batch_size": 8, "log_every": 1})
    config.eval.update({"eval_every": 8, "batch_size": 8})
    config.checkpoint.save_every = 8
    config.model.scan_layers = True
    return made.changed(config, changes)


@pytest.fixture(scope="module")
def trained(folder: Path, source: Path, data: Path) -> Path:
    """All parameters, 16 steps, with hard negatives."""
    config = recipe(
        source, data, embed__hard_negatives=1, train__num_steps=16, embed__pool="last"
    )
    stages.run(config, folder / "trained")
    return folder / "trained"


def test_the_loss_falls_and_the_held_out_are_scored(trained: Path):
    rows = metrics.read(trained / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    last = [row for row in rows if "valid_loss" in row][-1]
    assert 0 <= last["valid_recall_1"] <= last["valid_recall_10"] <= 1
    assert not any("bits_per_byte" in row for row in rows)  # it is no loss of tokens


def test_the_run_opens_as_a_model_and_says_how_it_pools(trained: Path):
    assert json.loads((trained / "embed.json").read_text()) == {
        "pool": "last",
        "size": 0,
        "max_length": 24,
    }
    assert lineage.faults(trained) == []
    embedder = vectors.open_embedder(trained, size=8)
    params, config, tokenizer, _ = open_run(trained)
    how = Pooling("last", size=8, max_length=24)
    same = embed.embed(params, config, tokenizer, how, ["red", "a b"]).vectors
    np.testing.assert_array_equal(embedder.vectors(["red", "a b"]), same)


def test_hard_negatives_are_kept_and_are_no_query_s_own(trained: Path, data: Path):
    hard = json.loads((trained / "hard_negatives.json").read_text())
    outputs = lineage.read(trained)["outputs"]
    assert {"embed.json", "hard_negatives.json"} <= set(outputs)
    assert {len(row) for row in hard} == {1}


def test_a_low_rank_change_opens_with_its_base(folder, source, data):
    config = recipe(source, data, lora__rank=2)
    config.lora.targets = ("layers/attention/*", "layers/mlp/*")
    stages.run(config, folder / "changed")
    embedder = vectors.open_embedder(folder / "changed")
    assert embedder.how == Pooling("mean", max_length=24)
    base_vectors = vectors.open_embedder(source, max_length=24).vectors(["red"])
    distance = np.abs(embedder.vectors(["red"]) - base_vectors).max()
    assert 1e-6 < distance < 0.5


@pytest.mark.slow
def test_going_on_changes_nothing(folder: Path, source: Path, data: Path):
    """Two steps and two more are four."""
    for name, steps in (("apart", (2, 4)), ("whole", (4,))):
        for num_steps in steps:
            config = recipe(source, data, train__num_steps=num_steps)
            config.optimizer.schedule = "constant"
            stages.run(config, folder / name)
    rows = [
        metrics.read(folder / name / "metrics.jsonl") for name in ("apart", "whole")
    ]
    losses = [[row["loss"] for row in each if "loss" in row] for each in rows]
    assert losses[0] == losses[1] and len(losses[0]) == 4


REFUSED = {
    "train.num_microbatches is 2": {"train__num_microbatches": 2},
    "train.probe_every is 1": {"train__probe_every": 1},
    "eval.sample_every is 5": {"eval__sample_every": 5},
    "parallel.context is 2": {"parallel__context": 2},
    "embed.sizes has none": {"embed__sizes": ()},
    "embed.temperature is not positive": {"embed__temperature": 0.0},
    "pool 'max' is not one of": {"embed__pool": "max"},
    "vectors have 32 numbers": {"embed__sizes": (64,)},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_sense_is_said_first(words: str, source, data, tmp_path: Path):
    with pytest.raises(UserError, match=words):
        stages.run(recipe(source, data, **REFUSED[words]), tmp_path / "run")


def test_the_verb_writes_vectors_as_lines_and_as_a_file(trained, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("find red?\nred is here\n", "utf-8")
    assert main(["embed", "--from", str(trained), str(texts)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["find red?", "red is here"]
    out = tmp_path / "v.npy"
    assert main(["embed", "--from", str(trained), str(texts), "--out", str(out)]) == 0
    assert f"{out}: 2 vectors of 32 numbers" in capsys.readouterr().out
    found = np.load(out)
    np.testing.assert_allclose(found, [row["vector"] for row in rows], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_verb_prints_the_nearest_and_analogies(trained, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("find red?\nwest\nfind red?\n", "utf-8")
    ask = ["embed", "--from", str(trained), "--corpus", str(texts)]
    assert main([*ask, "--nearest", "2", str(texts)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["find red?", "  1.000  find red?", "  1.000  find red?"]
    assert lines[3:5] == ["west", "  1.000  west"] and len(lines) == 9
    # of a and b, b is to a as a is to b: nothing but the third is left
    assert main([*ask, "--analogy", "a", "b", "a", "--nearest", "1"]) == 0
    assert capsys.readouterr().out.startswith("a is to b as a is to\n  ")


MISTAKES = {
    "give a FILE of texts": [],
    "give a FILE": ["texts", "--analogy", "a", "b", "c"],
    "--nearest looks among": ["texts", "--nearest", "3"],
    "--corpus is looked through by": ["texts", "--corpus", "texts"],
    "does not end in .npy": ["texts", "--out", "v.txt"],
    "--nearest -1 is below 0": ["texts", "--corpus", "c", "--nearest", "-1"],
    "cannot read FILE texts: No such file": ["texts"],
    "an empty word": ["--analogy", "a", "", "c"],
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_in_what_to_embed_is_one_line(words: str, trained, mistake_here):
    assert words in mistake_here("embed", "--from", trained, *MISTAKES[words])


def test_mistakes_that_need_the_model(trained, tmp_path, mistake_here):
    texts = tmp_path / "texts.txt"
    texts.write_text("red\n", "utf-8")
    ask = ("embed", "--from", trained, texts)
    assert "vectors have 32 numbers" in mistake_here(*ask, "--size", 33)
    assert "pool 'max' is not one of" in mistake_here(*ask, "--pool", "max")
    said = mistake_here(*ask, "--corpus", texts, "--nearest", 2)
    assert "the 2 nearest of 1: ask for 1 to 1" in said
    assert "no words as one token" in mistake_here(*ask, "--words", "--nearest", 1)
