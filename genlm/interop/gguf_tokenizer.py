"""GGUF, THE TOKENIZER: the vocabulary inside -> a tokenizer.json of `tokenizers`.

Before: gguf_vocabulary. After: whoever opens a tokenizer.json. Two kinds are read:
'gpt2', byte-level BPE with its merges, and 'llama', SentencePiece's BPE, whose merges
follow from its scores. Control tokens become special ones, and no merge of pieces makes
them, so text cannot spell them.
The form: https://huggingface.co/docs/tokenizers/api/models
"""

from typing import Any

from genlm.errors import UserError
from genlm.interop.gguf import GGUF
from genlm.interop.gguf_header import Header, shown
from genlm.interop.gguf_vocabulary import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SpecialIds,
    Vocabulary,
    rule_of,
    special_ids,
    vocabulary_of,
)

_LONGEST = 1024  # characters of a piece; all its halves are tried
_SPACE = "▁"
_MERGES = "tokenizer.ggml.merges"


def tokenizer_json(gguf: GGUF) -> dict[str, Any]:
    """The content of a tokenizer.json; `Tokenizer.from_str(json.dumps(...))` opens it.

    Raises:
      UserError: there is none in the file, it is damaged, or of a kind or with a rule
        that is not known here.
    """
    header = gguf.header
    kind = header.text("tokenizer.ggml.model")
    vocabulary = vocabulary_of(gguf)
    if kind == "gpt2":
        parts = _byte_level(header, vocabulary)
    elif kind == "llama" and gguf.config["model_type"].startswith("gemma"):
        parts = _gemma(header, vocabulary)
    elif kind == "llama":
        parts = _sentence_piece(header, vocabulary)
    else:
        raise UserError(
            f"{header.path}: a tokenizer of kind {shown(kind)} is not supported; these"
            " are: gpt2, llama"
        )
    ids = special_ids(gguf)
    named = {i for i in (ids.bos, ids.eos, ids.eot) if i is not None}
    nothing = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer"))
    return {
        "version": "1.0",
        **nothing,
        "post_processor": _ends(vocabulary, ids),
        **parts,
        "added_tokens": _added(vocabulary, named, set(parts["model"]["vocab"])),
    }


def _byte_level(header: Header, vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of a tokenizer.json of byte-level BPE."""
    rule = rule_of(header)
    vocab = {t: i for i, t in enumerate(vocabulary.tokens)}
    for i in vocabulary.of_types(UNUSED):
        vocab.pop(f"[PAD{i}]", None)  # the converter's name for an id of no token
    merges = _listed_merges(header, vocabulary)
    is_own = rule.regex is None
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    words: list[dict[str, Any]] = []
    if rule.splits_digits:
        words.append({"type": "Digits", "individual_digits": True})
    if rule.regex is not None:
        words.append(_split(rule.regex))
    return {
        "normalizer": {"type": "NFC"} if rule.is_composed else None,
        "pre_tokenizer": _sequence([*words, level | {"use_regex": is_own}]),
        "decoder": level | {"use_regex": True},
        "model": _bpe(vocab, merges) | {"ignore_merges": rule.takes_whole_words},
    }


def _listed_merges(header: Header, vocabulary: Vocabulary) -> list[list[str]]:
    """The merges that the file has, best first."""
    control = {vocabulary.tokens[i] for i in vocabulary.of_types(CONTROL)}
    tokens = {*vocabulary.tokens} - control
    merges = [m.split(" ", 1) for m in header.texts(_MERGES)]
    for pair in merges:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= tokens:
            wrong = shown(" ".join(pair))
            raise UserError(f"{header.path}: merge {wrong} is not of tokens of text")
    return merges


def _sentence_piece(header: Header, vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of a tokenizer.json of Llama's SentencePiece."""
    if _MERGES in header.fields:
        merges = _listed_merges(header, vocabulary)
    else:
        merges = _merges(header, vocabulary, _scores(header, vocabulary))
    has_prefix = header.flag("tokenizer.ggml.add_space_prefix", True)
    space = {
        "type": "Metaspace",
        "replacement": _SPACE,
        "prepend_scheme": "first" if has_prefix else "never",
        "split": False,
    }
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {
        "pre_tokenizer": space,
        "decoder": _pieces_decoder(strip if has_prefix else []),
        "model": _pieces_model(header, vocabulary, merges),
    }


def _gemma(header: Header, vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of a tokenizer.json of Gemma's SentencePiece: no space is added, and
    pieces are merged in the order of their ids. Runs of spaces are spelled as such."""
    tokens = [
        t.replace(" ", _SPACE) if not t.strip(" ") else t for t in vocabulary.tokens
    ]
    vocabulary = vocabulary._replace(tokens=tokens)
    merges = _merges(header, vocabulary, [-float(i) for i in range(len(tokens))])
    words = _split(" ") | {"pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    return {
        "normalizer": replace,
        "pre_tokenizer": words,
        "decoder": _pieces_decoder([]),
        "model": _pieces_model(header, vocabulary, merges),
    }


def _pieces_model(
    header: Header, vocabulary: Vocabulary, merges: list[list[str]]
) -> dict[str, Any]:
    """BPE over SentencePiece's pieces: bytes where no piece fits."""
    vocab = {t: i for i, t in enumerate(vocabulary.tokens)}
    if len(vocab) < len(vocabulary.tokens):
        raise UserError(f"{header.path}: two tokens are the same run of spaces")
    unknown = vocabulary.of_types(UNKNOWN)
    return _bpe(vocab, merges) | {
        "unk_token": vocabulary.tokens[unknown[0]] if unknown else None,
        "fuse_unk": True,
        "byte_fallback": True,
    }


def _scores(header: Header, vocabulary: Vocabulary) -> list[float]:
    """How good each piece is; some converters write one number for all, from which the
    order of merges cannot be had."""
    scores = header.numbers("tokenizer.ggml.scores").tolist()
    pieces = vocabulary.of_types(NORMAL)
    if len(scores) != len(vocabulary.tokens):
        raise UserError(f"{header.path}: {len(scores):,} scores of tokens")
    if len(pieces) > 1 and len({scores[i] for i in pieces}) == 1:
        raise UserError(f"{header.path}: all tokens have the score {scores[pieces[0]]}")
    return scores


def _merges(
    header: Header, vocabulary: Vocabulary, scores: list[float]
) -> list[list[str]]:
    """Every way to make a piece of two, the best piece first; of one piece, the way
    with the longer first half first (as transformers orders them)."""
    made = vocabulary.of_types(NORMAL, USER_DEFINED)
    pieces = {vocabulary.tokens[i]: i for i in made}
    found = []
    for piece, i in pieces.items():
        if len(piece) > _LONGEST:
            raise UserError(f"{header.path}: token {i} has {len(piece):,} characters")
        halves = ((piece[:k], piece[k:]) for k in range(1, len(piece)))
        both = [(a, b) for a, b in halves if a in pieces and b in pieces]
        found += [(scores[i], len(a), len(b), a, b) for a, b in both]
    found.sort(key=lambda m: m[:3], reverse=True)
    return [[a, b] for *_, a, b in found]


def _pieces_decoder(last: list[dict[str, Any]]) -> dict[str, Any]:
    replace = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    steps = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, *last]
    return {"type": "Sequence", "decoders": steps}


def _bpe(vocab: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }


def _split(regex: str) -> dict[str, Any]:
    pattern = {"Regex": regex}
    return {
        "type": "Split",
        "pattern": pattern,
        "behavior": "Isolated",
        "invert": False,
    }


def _sequence(steps: list[dict[str, Any]]) -> dict[str, Any]:
    one = len(steps) == 1
    return steps[0] if one else {"type": "Sequence", "pretokenizers": steps}


def _added(
    vocabulary: Vocabulary, named: set[int], vocab: set[str]
) -> list[dict[str, Any]]:
    """Tokens that are found whole in text: special ones, which a reader of text can be
    told not to find, and the user's."""
    special = {*vocabulary.of_types(CONTROL, UNKNOWN), *named}
    whole = {*vocabulary.of_types(USER_DEFINED), *special}
    return [
        {
            "id": i,
            "content": vocabulary.tokens[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": i in special,
        }
        for i in sorted(whole)
        if vocabulary.tokens[i] in vocab  # a run of spaces of Gemma's is a piece there
    ]


def _ends(vocabulary: Vocabulary, ids: SpecialIds) -> dict[str, Any] | None:
    """What puts the first and last token around a text."""
    begin = [ids.bos] if ids.add_bos and ids.bos is not None else []
    end = [ids.eos] if ids.add_eos and ids.eos is not None else []
    if not begin + end:
        return None

    def around(name: str, kind: int) -> list[dict[str, Any]]:
        tokens = [*begin, None, *end]
        return [
            (
                {"Sequence": {"id": name, "type_id": kind}}
                if i is None
                else {"SpecialToken": {"id": vocabulary.tokens[i], "type_id": kind}}
            )
            for i in tokens
        ]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": {
            vocabulary.tokens[i]: {
                "id": vocabulary.tokens[i],
                "ids": [i],
                "tokens": [vocabulary.tokens[i]],
            }
            for i in begin + end
        },
    }
