"""THE CONTENT OF A TOKENIZER.JSON: checked, completed, and made a tokenizer.

Before: whoever reads one (hf_tokenizer) or builds one (sentence_piece_json). After:
genlm.tokenizer.huggingface.
"""

import dataclasses
from typing import Any, Iterable

from genlm.errors import UserError
from genlm.tokenizer.huggingface import Extras, HuggingFaceTokenizer
from genlm.tokenizer.special import Special


def make_tokenizer(
    content: dict[str, Any],
    *,
    vocab_size: int,
    stops: Iterable[int] = (),
    adds_bos: bool | None = None,
    extras: Extras = Extras(),
) -> HuggingFaceTokenizer:
    """A tokenizer from a tokenizer.json's content, checked by `check_content`.

    STOP is the token named eos_token; where none is, the first of `stops`. BOS is what
    the tokenizer itself puts before a text, unless `adds_bos` says more. PAD is the
    model's own, unless that is a STOP or BOS; then the first other of: the token for
    unknown text, an id past the tokenizer's, a control token, any id.

    Args:
      stops: ids that end an answer besides.

    Raises:
      UserError: nothing ends a text.
      ValueError: the library refuses the content.
    """
    ids = check_content(content, vocab_size)
    names = dict(extras.names)
    named = [ids[names["eos_token"]]] if "eos_token" in names else []
    stops = list(dict.fromkeys([*named, *stops]))
    if not stops:
        raise UserError(
            "nothing ends a text: tokenizer_config.json names no eos_token, and"
            " generation_config.json no eos_token_id"
        )
    texts = {i: text for text, i in ids.items()}
    if stops[0] in texts:
        names.setdefault("eos_token", texts[stops[0]])
    bos = _bos(content, names, ids, adds_bos)
    likely = [ids.get(names.get(name, "")) for name in ("pad_token", "unk_token")]
    past = next((i for i in range(len(texts) + 1) if i not in texts), vocab_size)
    special = [token["id"] for token in content["added_tokens"] if token["special"]]
    few = range(min(vocab_size, len(stops) + 2))  # more than are taken
    candidates = [*likely, *([past] if past < vocab_size else []), *sorted(special)]
    taken = {None, bos, *stops}
    pad = next((i for i in [*candidates, *few] if i not in taken), None)
    if pad is None:
        raise UserError(f"a vocabulary of {vocab_size} has no room for PAD")
    return HuggingFaceTokenizer(
        _beginning_with(content, bos, texts),
        vocab_size=vocab_size,
        special=Special(pad, bos, stops[0], tuple(stops[1:])),
        extras=dataclasses.replace(extras, names=names),
    )


def check_content(content: dict[str, Any], vocab_size: int) -> dict[str, int]:
    """The id of every token of a tokenizer.json's content.

    Raises:
      ValueError: it is malformed, or an id is outside the vocabulary.
    """
    model, added = content.get("model"), content.get("added_tokens", [])
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):
        if not all(map(_is_piece, vocab)):
            raise ValueError("its pieces are not [text, score]")
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    if not isinstance(vocab, dict):
        raise ValueError("it has no model with a vocab")
    if not isinstance(added, list) or not all(map(_is_added_token, added)):
        raise ValueError("its added_tokens are not a list of tokens")
    ids = vocab | {token["content"]: token["id"] for token in added}
    for text, i in ids.items():
        if not isinstance(text, str) or type(i) is not int:
            raise ValueError(f"{text!r:.60} has the id {i!r:.60}")
        if not 0 <= i < vocab_size:
            raise ValueError(
                f"id {i} of {text!r:.60} is outside the model's vocabulary of"
                f" {vocab_size}"
            )
    return ids


def mark_special(content: dict[str, Any], controls: set[int]) -> dict[str, Any]:
    """`content`, checked, in which the tokens of `controls` count as special."""
    added = {token["id"]: dict(token) for token in content.get("added_tokens", [])}
    texts = {i: text for text, i in check_content(content, 1 << 32).items()}
    for i in controls & texts.keys():
        added.setdefault(i, added_token(texts[i], i, is_special=True))
        added[i]["special"] = True
    for token in added.values():
        token.setdefault("special", False)
    model = content["model"] | (
        {"dropout": None} if "merges" in content["model"] else {}
    )
    return content | {
        "added_tokens": [added[i] for i in sorted(added)],
        "model": model,
    }


def _bos(
    content: dict[str, Any],
    names: dict[str, str],
    ids: dict[str, int],
    adds_bos: bool | None,
) -> int | None:
    """The id that stands before every text."""
    if adds_bos is None:
        first = _put_first(content)
        if first is not None and first not in ids.values():
            raise ValueError(f"it begins a text with {first!r:.60}")
        return first
    if not adds_bos:
        return None
    if "bos_token" in names:
        return ids.get(names["bos_token"])
    return _put_first(content)


def _beginning_with(
    content: dict[str, Any], bos: int | None, texts: dict[int, str]
) -> dict[str, Any]:
    """`content` whose post_processor puts `bos` first, and nothing where it is None:
    who reads tokenizer.json alone does as those who read `add_bos_token` do."""
    if _put_first(content) == bos:
        return content
    processor = content.get("post_processor")
    if processor and not _is_plain(processor):
        wants = "no BOS" if bos is None else repr(texts[bos])
        raise ValueError(
            f"its post_processor ({processor['type']}) does more than put a token"
            f" first, and add_bos_token asks for {wants}; make them agree"
        )
    token = "" if bos is None else texts[bos]
    return content | {"post_processor": begin_with(token, bos)}


def _is_plain(processor: Any) -> bool:
    """Whether it does nothing to ids but put some first."""
    kind = processor["type"]
    if kind == "Sequence":
        return all(map(_is_plain, processor["processors"]))
    if kind == "TemplateProcessing":
        return "Sequence" in processor["single"][-1]
    return kind == "ByteLevel"


def _put_first(content: dict[str, Any]) -> int | None:
    """The id that the tokenizer itself puts before a text."""
    try:
        return _first_id(content.get("post_processor"))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError("its post_processor is none") from error


def _first_id(processor: Any) -> int | None:
    """The id that a post_processor puts first; None where it puts none."""
    kind = processor["type"] if processor else None
    if kind == "Sequence":
        found = [_first_id(p) for p in processor["processors"]]
        return next((i for i in found if i is not None), None)
    if kind == "TemplateProcessing":
        first = processor["single"][0]
        if "SpecialToken" not in first:
            return None
        return processor["special_tokens"][first["SpecialToken"]["id"]]["ids"][0]
    if kind in ("BertProcessing", "RobertaProcessing"):
        return processor["cls"][1]
    return None


def _is_piece(piece: Any) -> bool:
    return isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], str)


def _is_added_token(token: Any) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and token["content"] != ""
        and type(token.get("id")) is int
    )


def added_token(text: str, i: int, is_special: bool) -> dict[str, Any]:
    """An entry of tokenizer.json's added_tokens."""
    return {
        "id": i,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": not is_special and "▁" in text,
        "special": is_special,
    }


def begin_with(token: str, i: int | None) -> dict[str, Any] | None:
    """The post_processor that puts a token before every text; None without its id."""
    if i is None:
        return None
    bos = {"SpecialToken": {"id": token, "type_id": 0}}
    first, second = ({"Sequence": {"id": s, "type_id": 0}} for s in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, second],
        "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]}},
    }
