"""PARITY, live: models of fresh seeds beside transformers, in and out."""

import contextlib
import itertools
import json
from pathlib import Path
import shlex
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop import folder, hf_config
from genlm.interop.run import open_run
from tests.golden import make_families
from tests.golden.make_families import Expected
from tests.interop.test_families import (
    TOLERANCE,
    export,
    greedy_of,
    logits_of,
    opened,
    require_same_tensors,
)
from tests.interop.test_import import TOKENIZER_CONFIG, call, put_together

torch = pytest.importorskip("torch", reason="torch is not installed: make parity")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: make parity"
)
pytestmark = pytest.mark.slow
_LENGTHS = (9, 23, 16)
_STOPS = (3, 41)  # <|im_end|>, and a word
_PROMPTS = ("the list of", "a", "is not an object that", "in the", "of", "for the and")


def _make(name: str, seed: int) -> tuple[Any, Expected, int]:
    """A model whose greedy answers no rounding changes, what it says, and its seed."""
    while True:
        model = make_families.make_model(name, seed)
        try:
            return model, make_families.expect(model, _LENGTHS, seed), seed
        except make_families.Tie:
            seed += 1


@pytest.mark.parametrize("seed", [1_000, 2_000])
@pytest.mark.parametrize("name", make_families.MODELS)
def test_a_model_goes_in_and_out(name: str, seed: int, tmp_path: Path):
    model, expected, seed = _make(name, seed)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="40KB")
    params, config = opened(tmp_path / "theirs")
    tokens, mask = expected.tokens, expected.mask
    logits = logits_of(params, config, tokens, mask)
    assert np.abs(logits - expected.logits).max() <= TOLERANCE
    answer = greedy_of(params, config, tokens, mask, make_families.TOKENS)
    np.testing.assert_array_equal(answer, expected.greedy)

    export(tmp_path / "ours", params, config, hf_config.family_of(config))
    require_same_tensors(tmp_path / "ours", tmp_path / "theirs")
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    back = make_families.expect(loaded.eval(), _LENGTHS, seed)
    np.testing.assert_array_equal(back.greedy, expected.greedy)
    np.testing.assert_allclose(back.logits, expected.logits, atol=1e-6)


@pytest.mark.parametrize("name", make_families.MODELS)
def test_what_the_verbs_write_is_what_transformers_opens(
    name: str, tmp_path: Path, capsys
):
    """A folder in, with tokenizer, STOP ids and settings, and ours out, by `import` and
    `export`: AutoTokenizer and AutoModel open it and write the same until STOP."""
    make_families.make_model(name, 3_000).save_pretrained(tmp_path / "made")
    settings = {"model_max_length": 128, "padding_side": "left"}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}  # or the family's own
    more = {"additional_special_tokens": ["<|im_start|>"], "pad_token": "<|im_end|>"}
    source = put_together(
        tmp_path / "theirs",
        tmp_path / "made",
        generation_config={"eos_token_id": list(_STOPS), "repetition_penalty": 1.0},
        tokenizer_config=TOKENIZER_CONFIG | settings | more,
    )
    run, out = tmp_path / "run", tmp_path / "out"
    call("import", "--from", source, "--workdir", run)
    call("export", "--from", run, "--to", "hf", "--out", out)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        out, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    assert model.generation_config.eos_token_id == list(_STOPS)
    assert model.generation_config.repetition_penalty == 1.0
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 3
    kind = transformers.AutoTokenizer
    if name == "qwen2":  # whose every tokenizer transformers 5 takes for Qwen's own
        kind = transformers.PreTrainedTokenizerFast
    before, tokenizer = map(kind.from_pretrained, (source, out))
    assert (tokenizer.model_max_length, tokenizer.padding_side) == (128, "left")
    assert tokenizer.special_tokens_map == before.special_tokens_map
    assert (
        tokenizer.chat_template
        == before.chat_template
        == TOKENIZER_CONFIG["chat_template"]
    )
    capsys.readouterr()
    asked = [word for prompt in _PROMPTS for word in ("--prompt", prompt)]
    limit = ["--max-tokens", make_families.TOKENS, "--temperature", 0, "--json"]
    call("generate", "--from", run, *asked, *limit)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    compared = 0
    for prompt, ours in zip(_PROMPTS, said, strict=True):
        read = tokenizer(prompt, return_tensors="pt")
        try:
            (theirs,) = make_families.greedy(model, read.input_ids, read.attention_mask)
        except make_families.Tie:
            continue
        kept = [int(i) for i in theirs if i not in _STOPS]
        assert ours["tokens"] == kept
        asked_ids = read.input_ids[0].tolist()
        before, whole = (
            tokenizer.decode(ids, skip_special_tokens=True)
            for ids in (asked_ids, asked_ids + kept)
        )
        assert before + ours["text"] == whole
        compared += 1
    assert compared >= 3
    model.generation_config.eos_token_id = None
    rows, theirs = _untied(model, tokenizer)
    brought = open_run(run)
    ours = greedy_of(brought.params, brought.config, *rows, make_families.TOKENS)
    np.testing.assert_array_equal(ours, theirs)


def _untied(model: Any, tokenizer: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """Two prompts as their ids and mask, padded, and answers that rounding leaves."""
    for prompts in itertools.combinations(_PROMPTS, 2):
        read = tokenizer(list(prompts), padding=True, return_tensors="pt")
        rows = read.input_ids, read.attention_mask
        with contextlib.suppress(make_families.Tie):
            return list(map(np.asarray, rows)), make_families.greedy(model, *rows)
    raise AssertionError("every pair of prompts has a tie")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "weights.pt"])
def test_the_line_that_converts_a_pickle_works(file: str, tmp_path: Path):
    """What `open_folder` says is run as it stands, and the folder opens."""
    model = make_families.make_model("gpt2", 0)
    home = tmp_path / "a model's"
    model.config.save_pretrained(home)
    torch.save(model.state_dict(), home / file)
    with pytest.raises(UserError, match="is a pickle") as caught:
        folder.open_folder(home)
    command = shlex.split(str(caught.value).split("transformers: ")[1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    made = tmp_path / f"{home.name}-safetensors"
    params, config = opened(made if made.exists() else home)
    named = dict(model.named_parameters())
    ours = params["layers"]["mlp"]["up"][1]
    theirs = named["transformer.h.1.mlp.c_fc.weight"].detach().numpy()
    np.testing.assert_array_equal(ours, theirs)
