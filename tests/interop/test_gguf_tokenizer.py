"""Tokenizers inside GGUF files, against the libraries that learnt them from text."""

import io
import json
from pydoc_data.topics import topics

import pytest
import sentencepiece

from genlm.errors import UserError
from genlm.interop.gguf import open_gguf
from genlm.interop.gguf_tokenizer import tokenizer_json
from genlm.interop.gguf_vocabulary import special_ids
from tests.interop import gguf_files
from tests.interop.test_gguf import GOLDEN

tokenizers = pytest.importorskip("tokenizers")
np = pytest.importorskip("numpy")

TEXTS = [text for _, text in sorted(topics.items())][:40]
CONTROL, USER_DEFINED, UNUSED, BYTE = 3, 4, 5, 6


def _texts() -> list[str]:
    """Prose with code in it, and slices of many languages."""
    return TEXTS + [text for text, _ in json.loads(GOLDEN.read_text("utf-8"))]


def _open(path, architecture, settings, size):
    """A model of no layers to speak of, with a tokenizer inside."""
    shapes = {
        "token_embd.weight": (size, 4),
        "output_norm.weight": (4,),
        "attn_norm.weight": (4,),
        "ffn_norm.weight": (4,),
        **{f"attn_{n}.weight": (4, 4) for n in ("q", "k", "v", "output")},
        **{f"ffn_{n}.weight": (4, 4) for n in ("gate", "up", "down")},
    }
    if architecture == "qwen2":
        shapes |= {f"attn_{n}.bias": (4,) for n in "qkv"}
    if architecture == "gemma2":
        shapes |= {"post_attention_norm.weight": (4,), "post_ffw_norm.weight": (4,)}
    outer = ("token_embd.weight", "output_norm.weight")
    tensors = {
        name if name in outer else f"blk.0.{name}": np.zeros(shape, np.float32)
        for name, shape in shapes.items()
    }
    lengths = ("context_length", "embedding_length", "feed_forward_length")
    keys = {f"{{arch}}.{name}": 4 for name in lengths}
    keys |= {"{arch}.block_count": 1, "{arch}.attention.head_count": 1}
    keys["{arch}.attention.layer_norm_rms_epsilon"] = 1e-5
    keys |= {f"tokenizer.ggml.{name}": value for name, value in settings.items()}
    return open_gguf(gguf_files.write(path, architecture, keys, tensors))


def _inside(model) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(model)))


# The pre-tokenizers of these models' own tokenizer.json.
_SPLITS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "tekken": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
}


def _trained(pre: str) -> tokenizers.Tokenizer:
    """Byte-level BPE as a model of this kind has it, learnt from real text."""
    level, split = tokenizers.pre_tokenizers.ByteLevel, tokenizers.pre_tokenizers.Split
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    if pre in _SPLITS:
        cut = split(tokenizers.Regex(_SPLITS[pre]), "isolated")
        steps = [cut, level(add_prefix_space=False, use_regex=False)]
    else:
        digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
        steps = [digits] * (pre == "smollm") + [level(add_prefix_space=False)]
    own.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    if pre == "qwen2":
        own.normalizer = tokenizers.normalizers.NFC()
    own.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=level.alphabet(),
        show_progress=False,
    )
    own.train_from_iterator(TEXTS, trainer)
    return own


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", *_SPLITS])
def test_byte_level(pre, tmp_path):
    own = _trained(pre)
    own.add_tokens([tokenizers.AddedToken("<think>", normalized=False)])
    size = own.get_vocab_size()
    model = json.loads(own.to_str())["model"]
    tokens = [own.id_to_token(i) for i in range(size)]
    settings = {
        "model": "gpt2",
        "pre": pre,
        "tokens": [*tokens, f"[PAD{size}]"],
        "token_type": [CONTROL] + [1] * (size - 2) + [USER_DEFINED, UNUSED],
        "merges": [" ".join(pair) for pair in model["merges"]],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "add_bos_token": False,
    }
    architecture = "qwen2" if pre == "qwen2" else "llama"
    inside = _inside(_open(tmp_path / "a.gguf", architecture, settings, size + 1))
    for text in [*_texts(), "a <think> b", "e\u0301t\u00e9", "it's\n\n  12345 IT'S"]:
        assert inside.encode(text).ids == own.encode(text).ids
        ids = own.encode(text).ids
        assert inside.decode(ids) == own.decode(ids)
    assert inside.encode("a<|endoftext|>").ids[-1] == 0
    inside.encode_special_tokens = True
    assert 0 not in inside.encode("a<|endoftext|>").ids


def _sentence_piece(add_prefix: bool) -> sentencepiece.SentencePieceProcessor:
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(TEXTS).split("\n")),
        model_writer=trained,
        model_type="bpe",
        vocab_size=1200,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=add_prefix,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())


def _pieces(own: sentencepiece.SentencePieceProcessor) -> dict:
    """The vocabulary as the converter writes it."""
    size = own.vocab_size()
    types = [
        2 if own.is_unknown(i)
        else CONTROL if own.is_control(i)
        else BYTE if own.is_byte(i)
        else 1
        for i in range(size)
    ]  # fmt: skip
    return {
        "model": "llama",
        "tokens": [own.id_to_piece(i) for i in range(size)],
        "scores": [float(own.get_score(i)) for i in range(size)],
        "token_type": types,
        "bos_token_id": own.bos_id(),
        "eos_token_id": own.eos_id(),
    }


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_sentence_piece(architecture, tmp_path):
    """With a space before the text for Llama, without for Gemma; text that spells a
    control token is text, until the tokenizer is told to trust it."""
    own = _sentence_piece(add_prefix=architecture == "llama")
    settings = _pieces(own) | {"add_space_prefix": architecture == "llama"}
    model = _open(tmp_path / "a.gguf", architecture, settings, own.vocab_size())
    inside = _inside(model)
    inside.encode_special_tokens = True
    for text in [*_texts(), "<s> not </s>", "no piece: 猫 \U0001f600"]:
        if text.startswith(" ") and architecture == "llama":
            continue  # transformers adds no space before one, SentencePiece does
        ids = own.encode(text)
        assert inside.encode(text, add_special_tokens=False).ids == ids
        assert inside.decode(ids, skip_special_tokens=False) == text
    inside.encode_special_tokens = False
    bos, eos = own.bos_id(), own.eos_id()
    trusted = inside.encode("<s>a</s>").ids
    assert trusted[:2] == [bos, bos] and trusted[-1] == eos


def test_the_end_of_a_turn_is_found_by_its_spelling(tmp_path):
    own = _sentence_piece(add_prefix=False)
    settings = _pieces(own)
    settings["tokens"][-1], settings["token_type"][-1] = "<end_of_turn>", CONTROL
    model = _open(tmp_path / "a.gguf", "gemma2", settings, own.vocab_size())
    ids = special_ids(model)
    assert ids.eot == own.vocab_size() - 1 and ids.bos == own.bos_id() and ids.add_bos


_WRONG = {
    "a rule that is not known": (
        {"pre": "command-r"},
        "tokenizer.ggml.pre = 'command-r' is not supported; these are: gpt-2",
    ),
    "a kind that is not known": ({"model": "bert"}, "of kind 'bert' is not supported"),
    "types of other tokens": ({"token_type": [1]}, "3 tokens, 1 types"),
    "a token twice": ({"tokens": ["a", "b", "a"]}, "token 'a' is there twice"),
    "too many tokens": ({"tokens": list("abcde")}, "5 tokens for an embedding of 4"),
    "a merge of no token": ({"merges": ["a x"]}, "merge 'a x' is not of tokens"),
    "a merge that makes a control token": (
        {"token_type": [1, 1, CONTROL]},
        "merge 'a b' is not of tokens of text",
    ),
    "scores that say nothing": (
        {"model": "llama", "merges": [], "scores": [-1000.0] * 3},
        "all tokens have the score -1000.0",
    ),
    "half a merge": ({"merges": ["a"]}, "merge 'a' is not of tokens"),
    "an id outside": ({"bos_token_id": 3}, "bos_token_id = 3 is not in the vocab"),
    "an id that is a text": (
        {"eos_token_id": "b"},
        "must be a whole number, not strin",
    ),
    "no list": ({"tokens": "abc"}, "must be a list of texts, not string"),
    "another list": (
        {"merges": [1, 2]},
        "must be a list of texts, not a list of int32",
    ),
}


@pytest.mark.parametrize("name", _WRONG)
def test_what_is_wrong_is_said(name, tmp_path):
    settings, said = _WRONG[name]
    good = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab"]}
    good |= {"merges": ["a b"], "token_type": [1, 1, 1], "bos_token_id": 0}
    with pytest.raises(UserError) as error:
        tokenizer_json(_open(tmp_path / "a.gguf", "llama", good | settings, 4))
    assert said in str(error.value) and "\n" not in str(error.value)
