"""What a tokenizer's files say besides goes out as it came: settings, ids, BOS."""

import json
from pathlib import Path

import pytest

from genlm.errors import UserError
from genlm.interop.hf_tokenizer import read_tokenizer, write_tokenizer
from genlm.interop.tokenizer_content import begin_with
from tests.interop.test_hf_tokenizer import CONFIG, SIZE, library, read
from tests.tokenizer import made


def test_ids_that_only_the_model_states_go_out_as_they_came(tmp_path: Path):
    """As Qwen's: the tokenizer names no BOS or PAD, and the ids stand elsewhere."""
    stated = {"bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0}
    (tmp_path / "out").mkdir()
    for name in ("generation_config", "config"):
        first = read(tmp_path / name, tokenizer_config={}, **{name: stated})
        write_tokenizer(first, tmp_path / "out")
        said = (tmp_path / "out" / "generation_config.json").read_text()
        assert json.loads(said) == stated


def test_a_processor_that_does_more_is_no_matter_of_bos(tmp_path: Path):
    """Its end token would be lost; one line says so."""
    after = begin_with("<|endoftext|>", 0)
    end = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    after["single"].append(end)
    content = made.byte_level() | {"post_processor": after}
    with pytest.raises(UserError, match="does more than put a token"):
        read(
            tmp_path,
            tokenizer=content,
            tokenizer_config=CONFIG | {"add_bos_token": False},
        )
    kept = read(tmp_path, tokenizer=content)
    assert kept.content["post_processor"] == after and kept.special.bos == 0


def test_a_tokenizer_from_elsewhere_goes_out_as_it_came(tmp_path: Path):
    settings = {
        "additional_special_tokens": ["<|im_start|>"],
        "model_max_length": 10**30,
        "padding_side": "left",
        "clean_up_tokenization_spaces": True,
    }
    config = CONFIG | {"chat_template": "{{ 1 }}", "add_bos_token": False}
    stops = {"bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 2}
    writes = {"do_sample": True, "temperature": 0.6, "suppress_tokens": [7]}
    first = read(
        tmp_path / "in",
        tokenizer_config=config | settings | {"pad_token": "<|im_end|>"},
        generation_config=stops | writes | {"transformers_version": "4.0"},
    )
    assert first.special.pad not in (0, 2)  # its own is its STOP
    (tmp_path / "out").mkdir()
    write_tokenizer(first, tmp_path / "out")
    again = read_tokenizer(tmp_path / "out", SIZE)
    assert again.special == first.special
    assert again.extras == first.extras
    assert again.content == first.content
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert said == stops | writes
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert said.items() >= settings.items() and said["pad_token"] == "<|im_end|>"


@pytest.mark.parametrize("adds", [True, False])
def test_bos_that_only_a_setting_asks_for(adds: bool, tmp_path: Path):
    """tokenizer.json says the same afterwards: many read nothing else."""
    content = made.byte_level()
    if not adds:
        content = content | {"post_processor": begin_with("<|endoftext|>", 0)}
    config = CONFIG | {"add_bos_token": adds}
    first = read(tmp_path / "in", tokenizer=content, tokenizer_config=config)
    assert first.special.bos == (0 if adds else None)
    (tmp_path / "out").mkdir()
    write_tokenizer(first, tmp_path / "out")
    written = library.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert (written.encode("hello").ids[0] == 0) == adds
    assert read_tokenizer(tmp_path / "out", SIZE).special == first.special
