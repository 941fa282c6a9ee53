"""GGUF, THE VOCABULARY: the tokens of a file, those that mean something, and the rule
by which text is cut into words.

Before: gguf_header. After: gguf_tokenizer, and whoever needs the special ids.
The rules: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

import collections
from typing import NamedTuple

from genlm.errors import UserError
from genlm.interop.gguf import GGUF
from genlm.interop.gguf_header import Header, shown

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # token types
_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")  # of a turn

_LETTERS = r"\r\n\p{L}\p{N}"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SUFFIXES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LLAMA3 = rf"{_SUFFIXES}|[^{_LETTERS}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}"
_QWEN2 = rf"{_SUFFIXES}|[^{_LETTERS}]?\p{{L}}+|\p{{N}}{_REST}"
_TEKKEN = (
    rf"[^{_LETTERS}]?{_UPPER}*{_LOWER}+|[^{_LETTERS}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    + _REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)
)


class Rule(NamedTuple):
    """How text is cut into words before merges."""

    regex: str | None  # None: GPT-2's, which `tokenizers` has built in
    splits_digits: bool = False  # one by one, first
    takes_whole_words: bool = False  # a word of the vocabulary is not merged together
    is_composed: bool = False  # to Unicode's form C, first
    adds_bos: bool = False  # where the file does not say


_RULES = {
    "gpt-2": Rule(None),
    "smollm": Rule(None, splits_digits=True),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe"),
        Rule(_LLAMA3, takes_whole_words=True, adds_bos=True),
    ),
    "qwen2": Rule(_QWEN2, is_composed=True),
    "tekken": Rule(_TEKKEN, takes_whole_words=True, adds_bos=True),
}


class SpecialIds(NamedTuple):
    """Ids that mean something, and what they are for; None where there is none."""

    bos: int | None  # begins a document
    eos: int | None  # ends one
    eot: int | None  # ends a turn of a chat
    pad: int | None
    unknown: int | None
    add_bos: bool  # whether a text begins with `bos`
    add_eos: bool  # whether it ends with `eos`
    chat_template: str | None  # Jinja


class Vocabulary(NamedTuple):
    tokens: list[str]
    types: list[int]

    def of_types(self, *types: int) -> list[int]:
        """Ids of the tokens that are of these types."""
        return [i for i, kind in enumerate(self.types) if kind in types]


def special_ids(gguf: GGUF) -> SpecialIds:
    """The ids that the file names. Where it names no end of a turn, it is the control
    token that is spelled like one.

    Raises:
      UserError: an id is outside the vocabulary.
    """
    header, vocabulary = gguf.header, vocabulary_of(gguf)
    known = {name: _id(header, vocabulary, name) for name in _IDS}
    if known["eot"] is None:
        control = {vocabulary.tokens[i]: i for i in vocabulary.of_types(CONTROL)}
        known["eot"] = next((control[e] for e in _ENDS if e in control), None)
    is_piece = header.text("tokenizer.ggml.model") == "llama"
    adds_bos = is_piece or (not is_piece and rule_of(header).adds_bos)
    has_template = "tokenizer.chat_template" in header.fields
    add_bos = header.flag("tokenizer.ggml.add_bos_token", adds_bos)
    return SpecialIds(
        **known,
        add_bos=add_bos and known["bos"] is not None,
        add_eos=header.flag("tokenizer.ggml.add_eos_token", False)
        and known["eos"] is not None,
        chat_template=(
            header.text("tokenizer.chat_template") if has_template else None
        ),
    )


_IDS = {
    "bos": "bos",
    "eos": "eos",
    "eot": "eot",
    "pad": "padding",
    "unknown": "unknown",
}


def _id(header: Header, vocabulary: Vocabulary, name: str) -> int | None:
    key = f"tokenizer.ggml.{_IDS[name]}_token_id"
    if key not in header.fields:
        return None
    value = header.integer(key)
    if not 0 <= value < len(vocabulary.tokens):
        raise UserError(f"{header.path}: {key} = {value} is not in the vocabulary")
    return value


def vocabulary_of(gguf: GGUF) -> Vocabulary:
    header, key = gguf.header, "tokenizer.ggml.token_type"
    tokens = header.texts("tokenizer.ggml.tokens")
    if len(tokens) > gguf.config["vocab_size"]:
        raise UserError(
            f"{header.path}: {len(tokens):,} tokens for an embedding of"
            f" {gguf.config['vocab_size']:,}"
        )
    if len(set(tokens)) < len(tokens):
        twice = collections.Counter(tokens).most_common(1)[0][0]
        raise UserError(f"{header.path}: token {shown(twice)} is there twice")
    if key not in header.fields:
        return Vocabulary(tokens, [NORMAL] * len(tokens))
    types = header.numbers(key).tolist()
    if len(types) != len(tokens):
        raise UserError(f"{header.path}: {len(tokens):,} tokens, {len(types):,} types")
    return Vocabulary(tokens, types)


def rule_of(header: Header) -> Rule:
    """How the file says that text is cut into words."""
    key = "tokenizer.ggml.pre"
    is_gpt2 = header.text("general.architecture") == "gpt2"
    name = header.text(key, "gpt-2" if is_gpt2 else None)
    if name not in _RULES:
        raise UserError(
            f"{header.path}: {key} = {shown(name)} is not supported; these are:"
            f" {', '.join(_RULES)}"
        )
    return _RULES[name]
