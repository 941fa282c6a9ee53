"""A life with a tokenizer that has no BOS and several STOPs, as many models have."""

import json
from pathlib import Path

import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.inference import decode
from genlm.interop.run import open_run
from genlm.stages import evaluate, hooks
from genlm.stages.prepare import Prepared
from genlm.tokenizer.base import prompt_ids
from genlm.tokenizer.byte import ByteTokenizer
from genlm.tokenizer.special import Special
from tests.data_files import write_names

PAD, STOP = 256, 258


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(ByteTokenizer, "special", Special(PAD, None, STOP))
    names = write_names(tmp_path / "names.txt")
    recipe = "experiments/pretrain_names.py:smoke"
    arguments = ["--workdir", str(tmp_path / "run"), f"--config.data.paths={names}"]
    assert main(["run", recipe, *arguments]) == 0
    return tmp_path / "run"


@pytest.mark.slow
def test_documents_begin_with_their_text_and_any_stop_ends_an_answer(
    run: Path, monkeypatch, capsys
):
    prepared = Prepared(run / "data")
    tokens, _ = prepared.split("train")
    names = (run.parent / "names.txt").read_bytes().split()
    documents = evaluate._documents(prepared, "train")
    for document, (shard, start, length) in zip(documents, tokens.documents):
        ids = tokens.shards[shard][start : start + length]
        np.testing.assert_array_equal(document, ids)
        assert bytes(ids[:-1].astype(np.uint8)) in names and ids[-1] == STOP

    model = open_run(run)
    prompt = "ab"
    kwargs = {"max_tokens": 4, "stop_ids": (STOP,), "pad": PAD}
    kwargs["sampling"] = decode.SamplingConfig(temperature=0)
    ids = [prompt_ids(model.tokenizer, prompt)]
    assert ids == [[97, 98]]
    (first,) = decode.generate(model.params, model.config, ids, **kwargs)
    capsys.readouterr()
    special = Special(PAD, None, STOP, stops=(first.tokens[0],))
    monkeypatch.setattr(ByteTokenizer, "special", special)
    command = ["generate", "--from", str(run), "--prompt", prompt, "--temperature", "0"]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["stop_reason"] == "stop" and row["tokens"] == []
    evaluation = hooks.EvalConfig(1, (prompt, ""), False, 4, 0.0, 1.0)
    write = hooks.make_writer(model.config, model.tokenizer, evaluation, seed=0)
    sample, _ = write(model.params)["samples"]
    assert sample["stop_reason"] == "stop" and sample["text"] == ""
