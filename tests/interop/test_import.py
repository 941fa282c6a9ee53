"""The verbs import, export and chat, on tiny models of every family: in and out again
bit for bit, and what is refused."""

import dataclasses
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from genlm import config, stages
from genlm.cli.__main__ import main
from genlm.data import chat
from genlm.errors import UserError
from genlm.inference import decode
from genlm.inference.sampling import SamplingConfig
from genlm.interop import exporting
from genlm.interop.run import Opened, open_run
from genlm.runs import checkpoint
from tests.command import ROOT, contents, start
from tests.data_files import write_names
from tests.interop import gguf_files
from tests.interop.test_families import GOLDEN, NAMES, require_same_tensors
from tests.tokenizer import made

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
TEMPERATURE = 4.0  # so that many different tokens are drawn
TOKENIZER_CONFIG = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}


def put_together(folder: Path, family: str = "llama", **files: Any) -> Path:
    """A Hugging Face folder: a tiny model, a tokenizer of 60 ids, what `files` say."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / family / name, folder)
    default = {"tokenizer": made.small(), "tokenizer_config": TOKENIZER_CONFIG}
    for name, content in (default | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return folder


def call(*arguments: object) -> None:
    """`genlm ...` in this process, which must end well."""
    assert main([str(a) for a in arguments]) == 0


def bring(source: Path, workdir: Path) -> Opened:
    """The run that `genlm import` makes."""
    call("import", "--from", source, "--workdir", workdir)
    return open_run(workdir)


def require_same_model(one: Opened, other: Opened) -> None:
    """Fail unless two runs hold the same model, bit for bit."""
    assert one.config == other.config
    assert one.tokenizer.special == other.tokenizer.special
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return put_together(tmp_path_factory.mktemp("import") / "model")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """The run of `folder`, which tests share and leave as it is."""
    bring(folder, folder.parent / "run")
    return folder.parent / "run"


@pytest.mark.parametrize("family", NAMES)
def test_import_export_import_is_bit_for_bit(family: str, tmp_path: Path, capsys):
    stated = {"eos_token_id": 3, "temperature": 0.6}
    source = put_together(tmp_path / "model", family, generation_config=stated)
    first = bring(source, tmp_path / "first")
    assert "parameters" in capsys.readouterr().out
    call("verify", tmp_path / "first")
    call("export", "--from", tmp_path / "first", "--out", tmp_path / "out")
    require_same_tensors(source, tmp_path / "out")
    second = bring(tmp_path / "out", tmp_path / "second")
    require_same_model(first, second)
    assert first.tokenizer.extras == second.tokenizer.extras  # its template too
    assert first.tokenizer.content == second.tokenizer.content


def test_what_is_imported_writes(run: Path, capsys):
    options = ["--max-tokens", "8", "--temperature", "0", "--json"]
    call("generate", "--from", run, "--prompt", "the value of", *options)
    row = json.loads(capsys.readouterr().out)
    ids, _ = greedy(run, open_run(run).tokenizer.encode(b"the value of").tolist(), 8)
    assert row["tokens"] == ids
    # what is read as words is joined by spaces
    assert " " + open_run(run).tokenizer.decode(ids).decode() == row["text"]


def test_generate_takes_the_template_from_the_model(run: Path, capsys):
    options = ["--max-tokens", "8", "--temperature", "0", "--json"]
    call("generate", "--from", run, "--chat", "--prompt", "the list", *options)
    row = json.loads(capsys.readouterr().out)
    said = [{"role": "user", "content": "the list"}]
    ids, _ = greedy(run, chat.encode_chat(open_run(run).tokenizer, said), 8)
    assert row["tokens"] == ids


def greedy(run: Path, prompt: list[int], num: int) -> tuple[list[int], str]:
    """The likeliest ids after a prompt, by the decoder itself, and why it ended."""
    opened = open_run(run)
    (answer,) = decode.generate(
        opened.params,
        opened.config,
        [prompt],
        max_tokens=num,
        stop_ids=opened.tokenizer.special.all_stops,
        pad=opened.tokenizer.special.pad,
        sampling=SamplingConfig(temperature=0.0),
    )
    return answer.tokens, answer.stop_reason


def test_a_gguf_file_under_another_name(tmp_path: Path, mistake_here):
    """As caches of downloads have them: known by its first bytes."""
    path = gguf_files.write(tmp_path / "model.gguf", "mamba", {}, {})
    blob = path.rename(tmp_path / "0a1b2c")
    said = mistake_here("import", "--from", blob, "--workdir", tmp_path / "run")
    assert f"{blob}: " in said and "'mamba'" in said


def test_a_second_import_is_skipped_in_one_line(folder: Path, run: Path, capsys):
    before = contents(run)
    call("import", "--from", folder, "--workdir", run)
    assert capsys.readouterr().out == f"{run}: holds {folder} already\n"
    assert contents(run) == before


def test_another_model_in_the_same_workdir(run: Path, tmp_path: Path, mistake_here):
    other = put_together(tmp_path / "other", "qwen2")
    before = contents(run)
    said = mistake_here("import", "--from", other, "--workdir", run)
    assert f"now '{other}'" in said and "take another --workdir" in said
    assert contents(run) == before


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model"])
def test_the_same_folder_with_other_files(name: str, tmp_path: Path, mistake_here):
    source = put_together(tmp_path / "model")
    (source / "tokenizer.model").write_bytes(b"one")  # tokenizer.json goes before it
    bring(source, tmp_path / "run")
    raw = bytearray((source / name).read_bytes())
    raw[-1] ^= 1
    (source / name).write_bytes(raw)
    said = mistake_here("import", "--from", source, "--workdir", tmp_path / "run")
    assert f"was made from another {source / name}" in said


def test_an_import_that_was_interrupted_is_done_again(
    folder: Path, run: Path, tmp_path: Path, monkeypatch
):
    """Between the checkpoint and the rest: the same command makes the run whole."""
    command = ["import", "--from", str(folder), "--workdir", str(tmp_path / "run")]

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("genlm.interop.run.save_model", interrupted)
        assert main(command) == 130
    assert checkpoint.steps(tmp_path / "run") == [0]
    call(*command)
    require_same_model(open_run(tmp_path / "run"), open_run(run))
    call("verify", tmp_path / "run")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_export_at_half_the_size(dtype: str, run: Path, tmp_path: Path):
    call("export", "--from", run, "--out", tmp_path / "out", "--dtype", dtype)
    again, here = bring(tmp_path / "out", tmp_path / "again"), open_run(run)
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(here.params)):
        np.testing.assert_array_equal(a, b.astype(dtype).astype(np.float32))
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert size < 0.6 * (GOLDEN / "llama" / "model.safetensors").stat().st_size


def test_export_over_what_is_no_export(run: Path, tmp_path: Path, mistake_here):
    mine = tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    said = mistake_here("export", "--from", run, "--out", mine)
    assert f"{mine} holds something else; export to a new folder" in said
    said = mistake_here("export", "--from", run, "--out", mine / "thesis.txt")
    assert "holds something else" in said
    said = mistake_here("export", "--from", run, "--out", run)
    assert "holds something else" in said
    assert contents(mine) == {mine / "thesis.txt": b"mine"}
    call("verify", run)


def test_export_over_an_earlier_export(run: Path, tmp_path: Path):
    out = tmp_path / "out"
    call("export", "--from", run, "--out", out, "--dtype", "float16")
    call("export", "--from", run, "--out", out)
    require_same_tensors(out, GOLDEN / "llama")


TOKENIZERS = {"byte": 259, "bpe": 300, "unigram": 300}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_genlm_trained_is_exported(kind: str, tmp_path: Path, capsys):
    settings = {
        "data.paths": write_names(tmp_path / "names.txt"),
        "tokenizer.kind": kind,
        "tokenizer.vocab_size": TOKENIZERS[kind],
    }
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    recipe = f"{ROOT}/experiments/pretrain_names.py:smoke"
    stages.run(config.load(recipe, overrides), tmp_path / "run")
    call("export", "--from", tmp_path / "run", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == (
        "llama"
    )
    again = bring(tmp_path / "out", tmp_path / "again")
    require_same_model(again, open_run(tmp_path / "run"))
    capsys.readouterr()
    said = []
    for workdir in ("run", "again"):
        options = ["--max-tokens", "12", "--prompt", "ab", "--prompt", ""]
        call("generate", "--from", tmp_path / workdir, *options)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


def test_chat_without_a_template(tmp_path: Path):
    """One line, and no traceback, once something was said."""
    config = {"eos_token": "<|im_end|>"}
    source = put_together(tmp_path / "model", tokenizer_config=config)
    bring(source, tmp_path / "run")
    process = start("chat", "--from", tmp_path / "run", stdin=subprocess.PIPE)
    out, said = process.communicate("hello\n")
    assert process.returncode == 1 and out == ""
    assert said == (
        "genlm chat: this model has no chat template; give it text to go on with"
        " instead (genlm generate)\n"
    )


@pytest.mark.slow
def test_chat_streams_until_any_stop(run: Path, tmp_path: Path):
    """Through a real pipe, which stays open: an answer comes in pieces, ends where an
    id of generation_config stands, and the next turn knows of it."""
    turn = chat.encode_chat(
        open_run(run).tokenizer, [{"role": "user", "content": "the list"}]
    )
    ids = drawn(run, turn, 400)
    stop = max(set(ids) - {0, 1, 2, 3}, key=ids.index)  # the last to come first
    first = ids[: ids.index(stop)]
    assert len(first) > 10
    source = put_together(
        tmp_path / "model", generation_config={"eos_token_id": [3, stop]}
    )
    bring(source, tmp_path / "run")
    process = start(
        *("chat", "--from", tmp_path / "run", "--temperature", TEMPERATURE),
        *("--top-p", "1", "--max-tokens", "400"),
        stdin=subprocess.PIPE,
        text=False,
        bufsize=0,
    )
    answer, *pieces = [say(process, line) for line in (b"the list\n", b"and it\n")]
    assert b"".join(answer) == open_run(run).tokenizer.decode(first) + b"\n"
    assert max(map(len, (answer, *pieces))) > 1, "each came all at once"
    out, error = process.communicate(b"\n")
    assert (process.returncode, out, error) == (0, b"", b"")


def say(process: subprocess.Popen, line: bytes) -> list[bytes]:
    """The answer of `genlm chat` to a line, in the pieces that came."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line)
    pieces = [b""]
    while not pieces[-1].endswith(b"\n"):
        pieces.append(os.read(process.stdout.fileno(), 1 << 16))
        assert pieces[-1], process.communicate()
    return pieces[1:]


def drawn(run: Path, prompt: list[int], num: int) -> list[int]:
    """Ids drawn after a prompt at TEMPERATURE and seed 0, past STOP."""
    opened = open_run(run)
    return list(
        decode.stream(
            opened.params,
            opened.config,
            prompt,
            max_tokens=num,
            stop_ids=[63],
            pad=opened.tokenizer.special.pad,
            sampling=SamplingConfig(TEMPERATURE),
        )
    )


def _pickle(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def _pickle_alone(folder: Path) -> Path:
    return _pickle(folder) / "pytorch_model.bin"


def _without(name: str) -> Any:
    def change(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return change


def _config(**keys: Any) -> Any:
    def change(folder: Path) -> Path:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))
        return folder

    return change


def _cut_gguf(folder: Path) -> Path:
    path = gguf_files.write(
        folder / "model.gguf",
        "llama",
        {"general.name": "cut"},
        {"token_embd.weight": np.ones((64, 32), np.float32)},
    )
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _cut_safetensors(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return folder


REFUSED = {
    "a pickle": (_pickle, "pytorch_model.bin is a pickle, which can run code"),
    "a pickle alone": (_pickle_alone, "in an environment with torch"),
    "no config.json": (_without("config.json"), "holds no config.json"),
    "no weights": (_without("model.safetensors"), "holds no model.safetensors"),
    "no tokenizer": (_without("tokenizer.json"), "has no tokenizer.json"),
    "a family": (_config(model_type="mamba"), "'mamba'"),
    "code": (_config(auto_map={"AutoModel": "x.Y"}), "which is never run here"),
    "a cut GGUF": (_cut_gguf, "model.gguf"),
    "cut weights": (_cut_safetensors, "model.safetensors"),
    "nothing": (lambda folder: folder / "none", "no such file or folder"),
    "a file": (lambda folder: folder / "config.json", "give the folder that it"),
    "a package": (lambda folder: "package:no_such", "pip install --no-deps no-such"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_one_line(name: str, tmp_path: Path, mistake_here):
    change, words = REFUSED[name]
    source = change(put_together(tmp_path / "model"))
    said = mistake_here("import", "--from", source, "--workdir", tmp_path / "run")
    assert words in said, said
    assert not [p for p in (tmp_path / "run").rglob("*") if p.name != ".lock"]


@pytest.mark.parametrize("library", ["tokenizers", "gguf"])
def test_a_missing_extra_is_named(
    library: str, folder: Path, tmp_path: Path, mistake_here, monkeypatch
):
    source = folder
    if library == "gguf":
        source = gguf_files.write(tmp_path / "model.gguf", "llama", {}, {})
    monkeypatch.setitem(sys.modules, library, None)
    said = mistake_here("import", "--from", source, "--workdir", tmp_path / "run")
    assert "pip install 'genlm[hf]'" in said


def test_export_of_what_no_family_has(run: Path, tmp_path: Path):
    opened = open_run(run)
    changed = dataclasses.replace(opened.config, activation="relu2")
    with pytest.raises(UserError, match="no family .* model.activation = 'relu2'"):
        exporting.write(opened._replace(config=changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()
