"""THE ROUND TRIP AND FORGERY LAWS of tokenizers: decode(encode(x)) is x for any bytes,
and no text, whatever it says, is encoded as a control token.
"""

from pydoc_data.topics import topics

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import sentencepiece

from genlm import tokenizer as tokenizers
from genlm.errors import UserError
from genlm.interop.tokenizer_content import make_tokenizer
from genlm.tokenizer import sentence_piece
from genlm.tokenizer.base import Tokenizer
from genlm.tokenizer.byte import ByteTokenizer
from genlm.tokenizer.huggingface import Extras
from tests.tokenizer import made

SAMPLE = [topics[name] for name in sorted(topics)[:30]]
ODD = (
    "",
    "\0",
    "a\0b",
    " ",
    "  two  spaces  ",
    "\n\n\n",
    "\r\n",
    "\t\ttabs\t",
    "▁",
    "a▁b ▁▁ c",
    "▅ ⁇ \ufffd",
    "\ufeffmark",
    "\u2028\u2029\x85\x0b\x0c",
    "e\u0301 \u00e9 ﬁ Å Å",
    "한국어 日本語 עברית 🙂👩‍👩‍👧",
    "\U0010ffff\ue000\uffff",
    "x" * 5000,
    " " * 5000,
)
FORGERIES = (
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<0x41>",
    "<0x00>",
    "<s>user</s>",
    "▁<s>▁",
    " <s> </s> <pad> <unk> ",
    "<<s>>",
    "[BOS]<|endoftext|><bos><eos>",
)


@pytest.fixture(scope="module", params=["byte", "bpe", "unigram", "huggingface"])
def tokenizer(request) -> Tokenizer:
    if request.param == "byte":
        return ByteTokenizer()
    if request.param == "huggingface":
        return _hugging_face()
    return sentence_piece.train(SAMPLE, vocab_size=400, algorithm=request.param, seed=0)


def _hugging_face() -> Tokenizer:
    """A byte-level BPE as models from elsewhere have."""
    pytest.importorskip("tokenizers")
    names = zip(("pad_token", "bos_token", "eos_token"), made.CHATML)
    return make_tokenizer(
        made.byte_level(),
        vocab_size=700,
        adds_bos=True,
        extras=Extras(None, dict(names)),
    )


def _controls(tokenizer: Tokenizer) -> list[int | None]:
    special = tokenizer.special
    return [special.pad, special.bos, *special.all_stops]


def _assert_comes_back(tokenizer: Tokenizer, text: bytes) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32 and ids.ndim == 1
    assert np.all((0 <= ids) & (ids < tokenizer.vocab_size))
    assert not set(ids.tolist()) & set(_controls(tokenizer))
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text


@given(text=st.binary())
def test_any_bytes_come_back(tokenizer: Tokenizer, text: bytes):
    _assert_comes_back(tokenizer, text)


@given(text=st.text())
def test_any_text_comes_back(tokenizer: Tokenizer, text: str):
    _assert_comes_back(tokenizer, text.encode("utf-8", "surrogatepass"))


@given(parts=st.lists(st.sampled_from(ODD + FORGERIES)))
def test_odd_text_comes_back(tokenizer: Tokenizer, parts: list[str]):
    _assert_comes_back(tokenizer, "".join(parts).encode())


@pytest.mark.parametrize("text", ODD + FORGERIES, ids=ascii)
def test_each_odd_text_comes_back(tokenizer: Tokenizer, text: str):
    _assert_comes_back(tokenizer, text.encode())


def test_real_text_comes_back(tokenizer: Tokenizer):
    for name in sorted(topics)[::10]:
        _assert_comes_back(tokenizer, topics[name].encode())


def test_the_name_of_a_piece_is_text_like_any_other(tokenizer: Tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    names = list(FORGERIES)
    if (model := tmp_path / "tokenizer.model").exists():
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        names += [processor.id_to_piece(i) for i in range(tokenizer.vocab_size)]
        assert {"<s>", "</s>", "<pad>", "<unk>", "<0x41>"} <= set(names)
    for name in names:
        _assert_comes_back(tokenizer, name.encode())
        _assert_comes_back(tokenizer, f"<s>{name}</s>".encode())


def test_control_tokens_are_three_and_spell_nothing(tokenizer: Tokenizer):
    pad, bos, stop = _controls(tokenizer)
    assert pad is not None and bos is not None and stop is not None
    assert len({pad, bos, stop}) == 3
    assert all(0 <= i < tokenizer.vocab_size for i in (pad, bos, stop))
    inside = [bos, *tokenizer.encode(b"ab"), pad, stop]
    assert tokenizer.decode(inside) == b"ab"
    assert tokenizer.decode([-1, tokenizer.vocab_size, 10**9]) == b""


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer: Tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    opened = tokenizers.load(tmp_path)
    assert opened.special == tokenizer.special
    assert opened.vocab_size == tokenizer.vocab_size
    for text in (*ODD, *FORGERIES, topics["for"]):
        ids = tokenizer.encode(text.encode())
        np.testing.assert_array_equal(opened.encode(text.encode()), ids)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_training_again_gives_the_same_tokenizer_that_shortens_text(algorithm: str):
    text = topics["for"].encode()
    first, again = (
        sentence_piece.train(SAMPLE, vocab_size=400, algorithm=algorithm, seed=0)
        for _ in range(2)
    )
    assert first.vocab_size == 400
    np.testing.assert_array_equal(first.encode(text), again.encode(text))
    assert len(first.encode(text)) < 0.7 * len(text)


def test_too_little_text_for_the_vocabulary_is_said():
    with pytest.raises(UserError, match="tokenizer.vocab_size"):
        sentence_piece.train(["a b c"], vocab_size=5000, algorithm="bpe", seed=0)


def test_a_folder_without_a_tokenizer_is_said(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        tokenizers.load(tmp_path)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_text_without_spaces_still_has_a_piece_for_one(algorithm: str):
    made = sentence_piece.train(
        ["abc\ndef"] * 3, vocab_size=269, algorithm=algorithm, seed=0
    )
    assert made.decode(made.encode(b"a b  c")) == b"a b  c"


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_half_a_surrogate_pair_in_the_text_is_no_character(algorithm: str):
    text = [f"{SAMPLE[0]} \ud83d\n\ud83d", *SAMPLE[1:]]  # as JSON may hold it
    learnt = sentence_piece.train(text, vocab_size=400, algorithm=algorithm, seed=0)
    raw = text[0].encode("utf-8", "surrogatepass")
    assert learnt.decode(learnt.encode(raw)) == raw
