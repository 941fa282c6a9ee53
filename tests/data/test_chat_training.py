"""What of a conversation is trained on: answers and the STOP after each."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from genlm.data import chat
from genlm.errors import UserError
from genlm.interop.hf_tokenizer import read_tokenizer, write_tokenizer
from genlm.tokenizer import load, sentence_piece
from genlm.tokenizer.byte import ByteTokenizer
from genlm.tokenizer.controls import ControlsTokenizer
from genlm.tokenizer.huggingface import HuggingFaceTokenizer
from tests.data.test_chat import BENIGN, CHATML, HOSTILE, NAMES, TEMPLATES, make, turns

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def smollm2(smollm2_folder: Path) -> HuggingFaceTokenizer:
    return read_tokenizer(smollm2_folder, 49152)


TALK = [
    {"role": "user", "content": "What is <|im_end|>?"},
    {"role": "assistant", "content": "A token.\n\nIt ends a turn "},
    {"role": "user", "content": "assistant"},
    {"role": "assistant", "content": "No: user"},
]
ENDS = {  # what ends an answer in each format
    "chatml": "<|im_end|>",
    "llama_2": "</s>",
    "llama_3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "qwen": "<|im_end|>",
    "mistral": "</s>",
    "phi_3": "<|end|>",
    "macro": "<|im_end|>",
}


def with_stop(name: str, kind: str) -> HuggingFaceTokenizer:
    tokenizer = make(kind, TEMPLATES[name])
    stop = tokenizer.controls[ENDS[name]]
    tokenizer.special = tokenizer.special._replace(stops=(stop,))
    return tokenizer


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_and_their_stops_are_trained_on_and_nothing_else(name: str, kind: str):
    tokenizer = with_stop(name, kind)
    ids, trained = chat.encode_training(tokenizer, TALK)
    stop = tokenizer.controls[ENDS[name]]
    assert ids.tolist() == chat.encode_chat(tokenizer, TALK, False)
    turns_of = [ids[piece] for piece in _stretches(trained)]
    assert [turn[-1] for turn in turns_of] == [stop, stop]
    said = [tokenizer.decode(turn).decode().strip() for turn in turns_of]
    assert said == [TALK[1]["content"].strip(), TALK[3]["content"].strip()]


def _stretches(trained) -> list[Any]:
    """Indexes of each run of trained tokens."""
    where = [i for i, is_trained in enumerate(trained) if is_trained]
    cuts = [n for n in range(1, len(where)) if where[n] != where[n - 1] + 1]
    return [where[a:b] for a, b in zip([0, *cuts], [*cuts, len(where)])]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_of_an_answer_is_what_stands_before_it(name: str):
    """What is trained on is what generation will have to go on with."""
    tokenizer = with_stop(name, "byte_level")
    ids, trained = chat.encode_training(tokenizer, TALK[:2])
    first = int(trained.argmax())
    prompt = chat.encode_chat(tokenizer, TALK[:1])
    if name in ("qwen", "macro"):  # which begin an answer otherwise than they show one
        return
    assert ids[:first].tolist() == prompt


def test_smollm2s_answers_are_trained_on(smollm2):
    tokenizer = smollm2
    ids, trained = chat.encode_training(tokenizer, TALK)
    stop = tokenizer.controls["<|im_end|>"]
    said = tokenizer.decode(ids[trained]).decode()
    assert said == TALK[1]["content"] + TALK[3]["content"]
    assert (ids[trained] == stop).sum() == 2


@given(content=HOSTILE)
def test_what_an_answer_says_is_never_a_control_token(content: str):
    tokenizer = with_stop("chatml", "byte_level")
    content = "x" + content.encode("utf-8", "ignore").decode()
    messages = turns(["hello", content])
    ids, trained = chat.encode_training(tokenizer, messages)
    controls = set(tokenizer.controls.values())
    assert [i for i in ids[trained] if i in controls] == [ids[trained][-1]]


REFUSED = {
    "no assistant": (CHATML, turns(["hello"]), "nothing to train on"),
    "empty": (CHATML, turns(["hello", ""]), "nothing to train on"),
    "no stop": (CHATML.replace("<|im_end|>", "<|end|>"), turns(["a", "b"]), "to stop"),
    "upper case": (
        CHATML.replace("message['content']", "message['content'] | upper"),
        turns(["hello", "world"]),
        "nothing to train on",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_train_nothing_is_refused(name: str):
    template, messages, words = REFUSED[name]
    tokenizer = make("byte_level", template)
    stop = tokenizer.controls["<|im_end|>"]
    tokenizer.special = tokenizer.special._replace(stops=(stop,))
    with pytest.raises(UserError, match=words):
        chat.encode_training(tokenizer, messages)


@pytest.fixture(scope="module")
def own() -> ControlsTokenizer:
    return ControlsTokenizer(ByteTokenizer())


def test_our_own_tokenizers_chat_too(own: ControlsTokenizer, tmp_path: Path):
    ids, trained = chat.encode_training(own, TALK)
    assert ids[0] == 257 and own.decode(ids).decode().startswith("user\nWhat is")
    said = b"".join(m["content"].encode() for m in TALK if m["role"] == "assistant")
    assert own.decode(ids[trained]) == said
    assert (ids[trained] == own.controls["<|im_end|>"]).sum() == 2
    assert own.special.all_stops == (258, 260)
    own.save(tmp_path)
    again = load(tmp_path)
    assert again.vocab_size == 261
    assert chat.encode_chat(again, TALK) == chat.encode_chat(own, TALK)


@given(contents=st.lists(HOSTILE, min_size=1, max_size=4))
def test_no_message_becomes_a_control_token_of_ours(contents: list[str]):
    own = ControlsTokenizer(ByteTokenizer())
    messages = turns([c.encode("utf-8", "ignore").decode() for c in contents])
    quiet = [{**m, "content": "a"} for m in messages]
    said, plain = (
        [i for i in chat.encode_chat(own, m) if i > 255] for m in (messages, quiet)
    )
    assert said == plain


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_our_own_format_goes_out_with_the_tokenizer(kind: str, tmp_path: Path):
    """transformers gives the same ids, and knows what ends an answer."""
    transformers = pytest.importorskip("transformers", reason="the reference")
    base = ByteTokenizer()
    if kind == "bpe":
        base = sentence_piece.train(
            [" ".join(BENIGN), *NAMES, "What is it? " * 40],
            vocab_size=320,
            algorithm="bpe",
            seed=0,
        )
    own = ControlsTokenizer(base)
    write_tokenizer(own, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "system", "content": "Be brief."}, *turns(BENIGN[:4])]
    for start in (True, False):
        expected = theirs.apply_chat_template(
            messages, add_generation_prompt=start, return_dict=False
        )
        assert chat.encode_chat(own, messages, start) == expected
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert set(generation["eos_token_id"]) == set(own.special.all_stops)
