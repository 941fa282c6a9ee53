"""A SENTENCEPIECE MODEL AS A TOKENIZER.JSON of the `tokenizers` library.

Before: a tokenizer.model, ours or another's (Llama 2). After: hf_tokenizer. Only models
that leave text as it is can be written so: identity normalisation, at most a space put
in front. What differs from SentencePiece as genlm.tokenizer.sentence_piece uses it: a
«▁» in the text is a space here. NUL is the same byte piece; bytes that are not UTF-8
cannot be given to the library as text.
"""

from typing import Any

from genlm.errors import UserError
from genlm.interop.tokenizer_content import added_token, begin_with

_SPACE = "▁"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # sentencepiece_model.proto
_UNIGRAM, _BPE = 1, 2
_OUT_OF_REACH = -1e6  # the score of a piece that text may not spell


def content(model: bytes) -> dict[str, Any]:
    """The content of a tokenizer.json that gives the ids of a SentencePiece `model`.

    Raises:
      UserError: it is no model, or does more to text than can be written so.
    """
    proto = _parse(model)
    pieces = {p.piece: i for i, p in enumerate(proto.pieces)}
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    steps: list[dict[str, Any]] = [_replace(" ", _SPACE)]
    strip = []
    if normalizer.add_dummy_prefix:
        steps.insert(0, {"type": "Prepend", "prepend": _SPACE})
        strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    decoders = [_replace(_SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    make = _bpe if trainer.model_type == _BPE else _unigram
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(p.piece, i, is_special=p.type != _USER_DEFINED)
            for i, p in enumerate(proto.pieces)
            if p.type in (_UNKNOWN, _CONTROL, _USER_DEFINED)
        ],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": begin_with(trainer.bos_piece, pieces.get(trainer.bos_piece)),
        "decoder": {"type": "Sequence", "decoders": decoders + strip},
        "model": make(proto, pieces) | {"byte_fallback": trainer.byte_fallback},
    }


def names(model: bytes) -> dict[str, str]:
    """{'bos_token': '<s>', ...}: the control tokens of a SentencePiece `model`."""
    proto = _parse(model)
    spec = proto.trainer_spec
    named = {
        "bos_token": spec.bos_piece,
        "eos_token": spec.eos_piece,
        "unk_token": spec.unk_piece,
        "pad_token": spec.pad_piece,
    }
    pieces = {p.piece for p in proto.pieces}
    return {name: piece for name, piece in named.items() if piece in pieces}


def _parse(model: bytes) -> Any:
    """The model's proto, if it can be written as a tokenizer.json.

    Raises:
      UserError: it cannot.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as made_from_proto

    proto: Any = made_from_proto.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except DecodeError as error:
        raise UserError("is no SentencePiece model") from error
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    changes_text = (
        normalizer.precompiled_charsmap
        or normalizer.remove_extra_whitespaces
        or not normalizer.escape_whitespaces
        or trainer.treat_whitespace_as_suffix
    )
    if not proto.pieces or trainer.model_type not in (_UNIGRAM, _BPE) or changes_text:
        raise UserError(
            "is a SentencePiece model of a kind that is not read here (it changes text,"
            " or is neither BPE nor unigram)"
        )
    return proto


def _bpe(proto: Any, pieces: dict[str, int]) -> dict[str, Any]:
    """Pairs merge in the order of the score of what they make; where several pairs make
    the same, the longer left part first, as in transformers' converter."""
    merges = []
    for made in (p for p in proto.pieces if p.type == _NORMAL):
        for cut in range(1, len(made.piece)):
            left, right = made.piece[:cut], made.piece[cut:]
            if left in pieces and right in pieces:
                merges.append((-made.score, -len(left), left, right))
    merges.sort()
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": proto.trainer_spec.unk_piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "ignore_merges": False,
        "vocab": pieces,
        "merges": [[left, right] for _, _, left, right in merges],
    }


def _unigram(proto: Any, pieces: dict[str, int]) -> dict[str, Any]:
    """The library finds any piece in text, SentencePiece its normal ones alone."""
    return {
        "type": "Unigram",
        "unk_id": pieces[proto.trainer_spec.unk_piece],
        "vocab": [
            [p.piece, p.score if p.type == _NORMAL else _OUT_OF_REACH]
            for p in proto.pieces
        ],
    }


def _replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}
