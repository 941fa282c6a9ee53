"""Tokenizers of Hugging Face folders, read, and written as AutoTokenizer reads them."""

import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Callable

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import sentencepiece

from genlm.errors import UserError
from genlm.interop.hf_tokenizer import read_tokenizer, write_tokenizer
from genlm.interop.tokenizer_content import added_token
from genlm.tokenizer import sentence_piece
from genlm.tokenizer.base import Tokenizer, prompt_ids
from genlm.tokenizer.byte import ByteTokenizer
from genlm.tokenizer.huggingface import HuggingFaceTokenizer
from tests.data_files import found
from tests.tokenizer import made

library = pytest.importorskip("tokenizers")
SIZE = 700
CONFIG = {"bos_token": "<|endoftext|>", "eos_token": {"content": "<|im_end|>"}}


def write(folder: Path, **files: Any) -> Path:
    """`folder` with a byte-level tokenizer, a tokenizer_config and what `files` say."""
    folder.mkdir(exist_ok=True)
    default = {"tokenizer": made.byte_level(), "tokenizer_config": CONFIG}
    for name, content in (default | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return folder


def read(folder: Path, **files: Any) -> HuggingFaceTokenizer:
    return read_tokenizer(write(folder, **files), SIZE)


def test_a_folder_is_read(tmp_path: Path):
    tokenizer = read(tmp_path, generation_config={"eos_token_id": [2, 0]})
    assert tokenizer.vocab_size == SIZE
    assert tokenizer.special.stop == 2
    assert tokenizer.special.all_stops == (2, 0)
    assert tokenizer.special.bos is None  # named, but put before no text
    assert tokenizer.extras.chat_template is None
    assert tokenizer.extras.names["eos_token"] == "<|im_end|>"


def test_bos_is_what_the_tokenizer_puts_first(tmp_path: Path):
    assert read(
        tmp_path, tokenizer_config=CONFIG | {"add_bos_token": True}
    ).special == (read(tmp_path).special._replace(bos=0))
    bos = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    first = {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text],
        "special_tokens": {
            "<|im_start|>": {
                "id": "<|im_start|>",
                "ids": [1],
                "tokens": ["<|im_start|>"],
            }
        },
    }
    content = made.byte_level()
    for processor in (first, {"type": "Sequence", "processors": [first]}):
        bos_first = read(tmp_path, tokenizer=content | {"post_processor": processor})
        assert bos_first.special.bos == 1


@pytest.mark.parametrize("name", ["generation_config", "config"])
def test_stop_of_a_model_whose_tokenizer_names_none(name: str, tmp_path: Path):
    """As gpt2's folder: the ids stand elsewhere."""
    tokenizer = read(tmp_path, tokenizer_config={}, **{name: {"eos_token_id": 0}})
    assert tokenizer.special.all_stops == (0,)
    assert tokenizer.special.pad != 0
    assert tokenizer.extras.names["eos_token"] == "<|endoftext|>"


def test_a_named_token_becomes_a_control_token(tmp_path: Path):
    content = made.byte_level()
    plain = [t | {"special": False} for t in content["added_tokens"]]
    tokenizer = read(
        tmp_path,
        tokenizer=content | {"added_tokens": plain},
        tokenizer_config=CONFIG | {"additional_special_tokens": ["<|im_start|>"]},
    )
    ids = tokenizer.encode(b"<|endoftext|><|im_start|><|im_end|><tool_call>").tolist()
    assert not {0, 1, 2} & set(ids)
    assert plain[-1]["id"] in ids  # not special: text like any other, as in the library


TEMPLATES: dict[str, Callable[[Path], object]] = {
    "chat_template.jinja": lambda p: p.write_text("{{ 'ä' }}", "utf-8"),
    "chat_template.json": lambda p: p.write_text('{"chat_template": "{{ \'ä\' }}"}'),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_of_a_file(name: str, tmp_path: Path):
    write(tmp_path, tokenizer_config=CONFIG | {"chat_template": "other"})
    TEMPLATES[name](tmp_path / name)
    assert read_tokenizer(tmp_path, SIZE).extras.chat_template == "{{ 'ä' }}"


def test_a_chat_template_of_several(tmp_path: Path):
    named = [{"name": n, "template": f"of {n}"} for n in ("tool_use", "default")]
    config = CONFIG | {"chat_template": named}
    assert read(tmp_path, tokenizer_config=config).extras.chat_template == "of default"


LONG = {"a" * 3: 10**30}
NAMED = {"<|endoftext|>": 0, "<|im_end|>": 1}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no object": ({"tokenizer": []}, "tokenizer.json is damaged: it holds no JSON"),
    "no model": ({"tokenizer": {}}, "tokenizer.json is damaged: it has no model"),
    "no vocab": (
        {"tokenizer": {"model": {"vocab": 3}}},
        "it has no model with a vocab",
    ),
    "pieces": ({"tokenizer": {"model": {"vocab": [1]}}}, "pieces are not"),
    "huge id": ({"tokenizer": {"model": {"vocab": LONG}}}, "outside the model's voc"),
    "no id": ({"tokenizer": {"model": {"vocab": {"a": "b"}}}}, "has the id 'b'"),
    "no type": ({"tokenizer": {"model": {"vocab": NAMED}}}, "library refuses it"),
    "eos": ({"tokenizer_config": {"eos_token": "</s>"}}, "has no token '</s>'"),
    "no eos": ({"tokenizer_config": {}}, "nothing ends a text"),
    "bos": ({"tokenizer_config": {"bos_token": [1]}}, "bos_token is [1], which is no"),
    "add_bos": ({"tokenizer_config": CONFIG | {"add_bos_token": 1}}, "not true or"),
    "template": ({"tokenizer_config": CONFIG | {"chat_template": 1}}, "no template"),
    "stop": ({"generation_config": {"eos_token_id": SIZE}}, "ids are from 0 to 699"),
    "stops": ({"generation_config": {"eos_token_id": [0, "a"]}}, "eos_token_id is"),
    "map": ({"special_tokens_map": [1]}, "special_tokens_map.json is damaged"),
    "listed": (
        {"tokenizer_config": CONFIG | {"additional_special_tokens": 3}},
        "no li",
    ),
    "decoder": ({"tokenizer_config": CONFIG | {"added_tokens_decoder": [1]}}, "no obj"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str, tmp_path: Path):
    files, words = MISTAKES[name]
    with pytest.raises(UserError) as caught:
        read(tmp_path, **files)
    said = str(caught.value)
    assert words in said and "\n" not in said and len(said) < 400


def test_an_id_outside_the_models_vocabulary_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="outside the model's vocabulary of 500"):
        read_tokenizer(write(tmp_path), 500)


def test_a_folder_without_a_tokenizer_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(UserError, match="save_pretrained"):
        read_tokenizer(tmp_path, SIZE)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
SMALL = {
    "added_tokens": [added_token("</s>", 2, is_special=True)],
    "pre_tokenizer": BYTE_LEVEL,
    "decoder": BYTE_LEVEL,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "</s>": 2}, "merges": []},
}


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(data: Any, tmp_path_factory):
    """Bytes changed, left out or put in: a UserError of one line, or a tokenizer."""
    folder = tmp_path_factory.getbasetemp() / "mutated"
    write(folder, tokenizer=SMALL, tokenizer_config={"eos_token": "</s>"})
    path = folder / data.draw(
        st.sampled_from(["tokenizer.json", "tokenizer_config.json"])
    )
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        new = data.draw(
            st.sampled_from([b"", b"0", b"-1", b'"', b"[", b"null", b"9" * 30])
        )
        raw[at : at + data.draw(st.integers(0, 4))] = new
    path.write_bytes(raw)
    try:
        tokenizer = read_tokenizer(folder, 5)
        tokenizer.decode(tokenizer.encode(b"ab"))
    except UserError as error:
        assert "\n" not in str(error)


def test_what_is_mutated_is_whole(tmp_path: Path):
    config = {"eos_token": "</s>"}
    write(tmp_path, tokenizer=SMALL, tokenizer_config=config)
    assert read_tokenizer(tmp_path, 5).encode(b"ab").tolist() == [0, 1]


def _kind(tokenizer: Any) -> str:
    return json.loads(tokenizer.to_str())["model"]["type"]


def _ours(kind: str) -> Tokenizer:
    if kind == "byte":
        return ByteTokenizer()
    return sentence_piece.train(made.PROSE, vocab_size=600, algorithm=kind, seed=0)


@pytest.fixture(scope="module", params=["byte", "bpe", "unigram"])
def ours(request) -> Tokenizer:
    return _ours(request.param)


def _real_texts() -> list[str]:
    """What every Python carries, and the data sets' where they are."""
    lines, play = found("dirty/langid.jsonl"), found("pretrain/tinyshakespeare.txt")
    said = lines.read_text("utf-8").splitlines() if lines else []
    verse = play.read_text("utf-8") if play else ""
    return [
        *(json.loads(line)["text"] for line in said[::10]),
        *(verse[i : i + 3000] for i in range(0, min(len(verse), 300_000), 30_000)),
        *(topics[name] for name in sorted(topics)[::8]),
        "NUL \0 too",
        "  spaces \n\n tabs\t\t 123,456 \r\n",
    ]


def test_what_is_written_gives_our_ids(ours: Any, tmp_path: Path):
    write_tokenizer(ours, tmp_path)
    written = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    written.encode_special_tokens = True
    is_unigram = _kind(written) == "Unigram"
    for text in [*_real_texts(), "<s> </s> <pad> <unk>", "<0x41>"]:
        ids = ours.encode(text.encode()).tolist()
        theirs = written.encode(text, add_special_tokens=False).ids
        if theirs != ids and is_unigram:
            _assert_equally_good(ours.model, ids, theirs)
        else:
            assert theirs == ids
        assert written.decode(theirs) == text


def _assert_equally_good(model: bytes, ids: list[int], theirs: list[int]) -> None:
    """SentencePiece adds scores up in float32, so that ties fall as rounding has it."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    a, b = (sum(processor.get_score(i) for i in some) for some in (ids, theirs))
    assert len(ids) == len(theirs) and a == pytest.approx(b, rel=1e-6)


def test_transformers_reads_what_is_written(ours: Tokenizer, tmp_path: Path):
    transformers = pytest.importorskip("transformers", reason="it is the reader")
    write_tokenizer(ours, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "The for statement is used to iterate over a sequence.\n\n It ends."
    assert theirs(text).input_ids == prompt_ids(ours, text)
    named = (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id)
    special = ours.special
    assert named == (special.pad, special.bos, special.stop)
    said = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (said.eos_token_id, said.pad_token_id) == (special.stop, special.pad)


def test_what_is_written_is_read_again(ours: Tokenizer, tmp_path: Path):
    write_tokenizer(ours, tmp_path)
    again = read_tokenizer(tmp_path, ours.vocab_size)
    assert again.special == ours.special
    text = topics["for"].encode()
    assert again.decode(again.encode(text)) == text
    assert again.decode(ours.encode(text)) == text


def test_smollm2_goes_through_transformers(smollm2_folder: Path, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    theirs = tmp_path / "theirs"  # a folder as transformers itself writes it
    transformers.AutoTokenizer.from_pretrained(smollm2_folder).save_pretrained(theirs)
    ours = read_tokenizer(theirs, 49152)
    assert ours.special.stop == 2 and ours.special.bos is None
    assert ours.special.pad == 0  # its own PAD is its STOP
    (tmp_path / "ours").mkdir()
    write_tokenizer(ours, tmp_path / "ours")
    folders = (theirs, tmp_path / "ours")
    before, after = map(transformers.AutoTokenizer.from_pretrained, folders)
    for text in _real_texts():
        assert after(text).input_ids == before(text).input_ids
    chat = [{"role": "user", "content": "hello"}]
    assert after.apply_chat_template(chat) == before.apply_chat_template(chat)
    assert after.special_tokens_map == before.special_tokens_map


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_folder_of_a_sentence_piece_model_alone(algorithm: str, tmp_path: Path):
    """As Llama 2's first folders: tokenizer.model, a space put in front of the text."""
    (tmp_path / "text").write_text("\n".join(made.PROSE), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "tokenizer"),
        model_type=algorithm,
        vocab_size=800,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    model = tmp_path / "tokenizer.model"
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokenizer = read_tokenizer(tmp_path, 800)
    special = tokenizer.special
    assert (special.bos, special.stop) == (theirs.bos_id(), theirs.eos_id())
    for name in sorted(topics)[::8]:
        text = topics[name]
        ids = tokenizer.encode(text.encode()).tolist()
        assert tokenizer.decode(ids) == text.encode()
        if algorithm == "unigram":
            _assert_equally_good(model.read_bytes(), theirs.encode(text), ids)
        else:
            assert ids == theirs.encode(text)


def test_a_sentence_piece_model_that_changes_text_is_refused(tmp_path: Path):
    (tmp_path / "text").write_text("\n".join(made.PROSE), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=300,
        minloglevel=2,
    )
    with pytest.raises(UserError, match="changes text.*save_pretrained"):
        read_tokenizer(tmp_path, 300)
    (tmp_path / "tokenizer.model").write_bytes(b"junk")
    with pytest.raises(UserError, match="no SentencePiece model"):
        read_tokenizer(tmp_path, 300)
