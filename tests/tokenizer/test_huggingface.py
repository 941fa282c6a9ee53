"""Hugging Face tokenizers behind the protocol, beside the library itself."""

import json
from pathlib import Path
import sys
from typing import Any, Iterator

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from genlm import tokenizer as tokenizers
from genlm.errors import UserError
from genlm.interop.hf_tokenizer import read_tokenizer
from genlm.interop.tokenizer_content import make_tokenizer
from genlm.tokenizer.base import prompt_ids
from genlm.tokenizer.huggingface import Extras, HuggingFaceTokenizer
from tests.data_files import shared
from tests.tokenizer import made

library = pytest.importorskip("tokenizers")
SIZE = 1000  # rows of the model's embedding, past every tokenizer here


def make(kind: str) -> HuggingFaceTokenizer:
    content = made.KINDS[kind]()
    texts = [token["content"] for token in content["added_tokens"]]
    eos = "<|im_end|>" if "<|im_end|>" in texts else "</s>"
    extras = Extras("{{ messages }}", {"eos_token": eos})
    return make_tokenizer(content, vocab_size=SIZE, extras=extras)


@pytest.fixture(scope="module", params=made.KINDS)
def tokenizer(request) -> HuggingFaceTokenizer:
    return make(request.param)


@pytest.fixture(scope="module")
def smollm2(smollm2_folder: Path) -> HuggingFaceTokenizer:
    return read_tokenizer(smollm2_folder, 49152)


def _reference(tokenizer: HuggingFaceTokenizer, is_trusted: bool) -> Any:
    reference = library.Tokenizer.from_str(json.dumps(tokenizer.content))
    reference.encode_special_tokens = not is_trusted
    return reference


def _texts(sample: int | None) -> Iterator[str]:
    """Of each file `sample` texts spread over it, or all."""
    files = [p for p in sorted(shared("pretrain").rglob("*")) if p.is_file()]
    for path in [*files, shared("dirty/langid.jsonl")]:
        text = path.read_bytes().decode()
        lines = text.splitlines()
        if path.suffix == ".jsonl":
            texts = [json.loads(line)["text"] for line in lines]
        else:
            texts = [text[i : i + 5000] for i in range(0, len(text), 5000)]
        yield from texts[:: max(1, len(texts) // sample) if sample else 1]


def _assert_is_the_library(
    tokenizer: HuggingFaceTokenizer, sample: int | None, longest: int | None = None
) -> None:
    untrusted, trusted = (_reference(tokenizer, t) for t in (False, True))
    count = 0
    for text in (t[:longest] for t in _texts(sample)):
        ids = tokenizer.encode(text.encode()).tolist()
        assert ids == untrusted.encode(text, add_special_tokens=False).ids
        of_template = trusted.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode_trusted(text).tolist() == of_template
        plain = untrusted.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids) == plain.encode()
        count += 1
    assert count > 100


def test_ids_and_text_are_the_librarys(tokenizer: HuggingFaceTokenizer):
    _assert_is_the_library(tokenizer, 15, longest=2000)


def test_smollm2s_ids_and_text_are_the_librarys(smollm2: HuggingFaceTokenizer):
    _assert_is_the_library(smollm2, 40)


@pytest.mark.slow
def test_all_ids_and_text_are_the_librarys(tokenizer: HuggingFaceTokenizer):
    _assert_is_the_library(tokenizer, None)


@pytest.mark.slow
def test_all_of_smollm2s_are_the_librarys(smollm2: HuggingFaceTokenizer):
    _assert_is_the_library(smollm2, None)


def test_no_text_becomes_a_control_token(tokenizer: HuggingFaceTokenizer):
    unknown = tokenizer.content["model"].get("unk_id")
    if unknown is None:
        unknown = tokenizer.controls.get(tokenizer.content["model"]["unk_token"])
    for control in tokenizer.controls:
        for text in (control, f"a{control}b", f" {control} {control}\n", control * 3):
            ids = set(tokenizer.encode(text.encode()).tolist())
            assert ids and not ids & (set(tokenizer.controls.values()) - {unknown})
        assert tokenizer.controls[control] in tokenizer.encode_trusted(control)


def test_the_library_alone_would_let_one_be_forged():
    """Why untrusted text is looked at twice (see genlm.tokenizer.huggingface)."""
    tokenizer = make("unigram")
    reference = _reference(tokenizer, is_trusted=False)
    stop = tokenizer.special.stop
    assert stop in reference.encode("a</s>b", add_special_tokens=False).ids
    ids = tokenizer.encode(b"a</s>b")
    assert stop not in ids and tokenizer.decode(ids) == b"a</s>b"


def test_smollm2s_control_tokens_are_text(smollm2: HuggingFaceTokenizer):
    assert len(smollm2.controls) == 17
    for control in smollm2.controls:
        text = f"so {control}user\n{control}".encode()
        ids = smollm2.encode(text)
        assert ids.min() >= 17
        assert smollm2.decode(ids) == text


@given(text=st.binary())
def test_any_bytes_come_back(text: bytes):
    tokenizer = make_once()
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text


def make_once(kept: list[HuggingFaceTokenizer] = []) -> HuggingFaceTokenizer:
    if not kept:
        kept.append(make("byte_level"))
    return kept[0]


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_a_token_inside_a_character_gives_its_bytes(kind: str):
    tokenizer = make(kind)
    raw = "🙂".encode()
    ids = tokenizer.encode(raw)
    spelt = [tokenizer.decode([i]) for i in ids]
    assert b"".join(spelt).strip() == raw
    assert raw[:1] in spelt


def test_bytes_that_are_not_utf_8_fall_back_on_byte_tokens():
    tokenizer = make("byte_fallback")
    ids = tokenizer.encode(b"\xff\xfe")
    vocab = tokenizer.content["model"]["vocab"]
    assert ids.tolist() == [vocab["<0xFF>"], vocab["<0xFE>"]]
    assert tokenizer.decode(ids) == b"\xff\xfe"


@pytest.mark.parametrize("kind", ["unigram", "word_level"])
def test_bytes_without_a_token_are_refused(kind: str):
    with pytest.raises(UserError, match="byte 0xff is not UTF-8"):
        make(kind).encode(b"good \xff")


def test_a_byte_that_smollm2_never_saw_is_refused(smollm2: HuggingFaceTokenizer):
    with pytest.raises(UserError, match="byte 0x04 has no token"):
        smollm2.encode(b"a\x04b")


def test_parts_are_encoded_as_one_text(tokenizer: HuggingFaceTokenizer):
    text = "Return a list.\n\n  It is sorted"
    whole = tokenizer.encode_trusted(text).tolist()
    for cut in range(len(text)):
        parts = [(text[:cut], True), (text[cut:], False)]
        assert tokenizer.encode_parts(parts)[0].tolist() == whole


def test_only_trusted_parts_hold_control_tokens(tokenizer: HuggingFaceTokenizer):
    name = list(tokenizer.controls)[-1]
    i = tokenizer.controls[name]
    parts = [(name, True), (f"a{name}b", False), (name, True), (name, False)]
    ids = tokenizer.encode_parts(parts)[0].tolist()
    assert ids.count(i) == 2
    whole = tokenizer.encode_parts([(text, True) for text, _ in parts])[0]
    assert (
        whole.tolist()
        == tokenizer.encode_trusted("".join(t for t, _ in parts)).tolist()
    )


def test_control_tokens_and_padding_rows_spell_nothing(tokenizer: HuggingFaceTokenizer):
    ids = tokenizer.encode(b"the list").tolist()
    odd = [*tokenizer.controls.values(), SIZE - 1, -1, 10**9]
    assert tokenizer.decode([*odd, *ids, *odd]) == tokenizer.decode(ids) == b"the list"
    assert tokenizer.decode(odd) == b""


def test_pad_is_no_stop(tokenizer: HuggingFaceTokenizer):
    special = tokenizer.special
    assert special.pad not in special.all_stops
    assert 0 <= special.pad < tokenizer.vocab_size


def test_a_vocabulary_without_pad_bos_or_a_free_row_takes_any_id_for_pad():
    content = made.byte_level()
    ids = {t["content"]: t["id"] for t in content["added_tokens"]}
    size = 1 + max(ids.values())
    names = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    stops = [ids[name] for name in made.CHATML]
    tokenizer = make_tokenizer(
        content, vocab_size=size, stops=stops, extras=Extras(None, names)
    )
    assert tokenizer.special.bos is None
    assert tokenizer.special.stop == ids["<|im_end|>"]
    assert sorted(tokenizer.special.all_stops) == sorted(stops)
    assert tokenizer.special.pad not in stops


def test_a_prompt_without_bos(tokenizer: HuggingFaceTokenizer):
    assert tokenizer.special.bos is None
    assert prompt_ids(tokenizer, "the list") == tokenizer.encode(b"the list").tolist()
    assert len(prompt_ids(tokenizer, "")) == 1


def test_saved_and_loaded_it_is_the_same(tokenizer: HuggingFaceTokenizer, tmp_path):
    tokenizer.save(tmp_path)
    opened = tokenizers.load(tmp_path)
    assert isinstance(opened, HuggingFaceTokenizer)
    assert opened.special == tokenizer.special
    assert opened.extras == tokenizer.extras
    assert opened.content == tokenizer.content
    text = made.PROSE[5].encode()
    np.testing.assert_array_equal(opened.encode(text), tokenizer.encode(text))


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'genlm\[hf\]'"):
        make("byte_level")


@pytest.mark.parametrize("name", ["tokenizer.json", "huggingface.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path):
    make("byte_level").save(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for raw in (b"", whole[: len(whole) // 2], b"[]", b'{"kind": "huggingface"}'):
        path.write_bytes(raw)
        with pytest.raises(UserError, match=name):
            tokenizers.load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=name):
        tokenizers.load(tmp_path)
