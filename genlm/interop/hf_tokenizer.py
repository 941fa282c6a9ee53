"""THE TOKENIZER OF A HUGGING FACE FOLDER, read and written.

Before: a folder as transformers writes it. After: genlm.tokenizer.huggingface, and the
other way for export. Read are tokenizer.json (or tokenizer.model) and, where they are
there, tokenizer_config.json, special_tokens_map.json, generation_config.json,
config.json, chat_template.jinja and chat_template.json: JSON and text, never code.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Iterable

from genlm.errors import UserError, require_text
from genlm.interop import sentence_piece_json
from genlm.interop.tokenizer_content import (
    added_token,
    begin_with,
    check_content,
    make_tokenizer,
    mark_special,
)
from genlm.tokenizer.base import Tokenizer
from genlm.tokenizer.byte import ByteTokenizer
from genlm.tokenizer.controls import ControlsTokenizer
from genlm.tokenizer.huggingface import Extras, HuggingFaceTokenizer
from genlm.tokenizer.sentence_piece import SentencePieceTokenizer
from genlm.tokenizer.special import Special
from genlm.tokenizer.spelling import ALPHABET

NAMES = tuple(f"{n}_token" for n in "bos eos unk sep pad cls mask".split())
_CONFIG, _MAP = "tokenizer_config.json", "special_tokens_map.json"
_GENERATION = "generation_config.json"
_CLEANS = "clean_up_tokenization_spaces"
_SETTINGS = (  # of tokenizer_config.json, which go out as they came
    _CLEANS,
    "additional_special_tokens",
    "extra_special_tokens",
    "model_max_length",
    "padding_side",
    "truncation_side",
)
_IDS = tuple(f"{name}_token_id" for name in ("bos", "eos", "pad"))
_NOT_CARRIED = {"_from_model_config", "transformers_version"}
_MAKE = (
    'python -c "from transformers import AutoTokenizer as A;'
    " A.from_pretrained('{0}').save_pretrained('{0}')\""
)


def read_tokenizer(folder: Path, vocab_size: int) -> HuggingFaceTokenizer:
    """The tokenizer of a Hugging Face folder.

    Args:
      vocab_size: rows of the model's embedding; no id may be past them.

    Raises:
      UserError: a file is missing or malformed, or an id is outside the vocabulary
        (names the file).
    """
    config = _read_object(folder / _CONFIG)
    names = _names(_read_object(folder / _MAP), folder / _MAP)
    names |= _names(config, folder / _CONFIG)
    path, content = _content(folder)
    if path.name == "tokenizer.model":
        names = sentence_piece_json.names(path.read_bytes()) | names
    try:
        ids = check_content(content, vocab_size)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    stops = _stop_ids(folder, vocab_size)
    for name in ("bos_token", "eos_token"):
        if name in names and names[name] not in ids:
            raise UserError(f"{path} has no token {names[name]!r}, the model's {name}")
    controls = {ids[t] for t in names.values() if t in ids} | set(stops)
    controls |= {ids[t] for t in _listed(config, folder / _CONFIG) if t in ids}
    extras = Extras(
        _chat_template(folder, config),
        names,
        _settings({**_read_object(folder / _MAP), **config}, folder / _CONFIG),
        _generation(folder),
    )
    adds_bos = _adds_bos(config, folder / _CONFIG)
    try:
        return make_tokenizer(
            mark_special(content, controls),
            vocab_size=vocab_size,
            stops=stops,
            adds_bos=adds_bos,
            extras=extras,
        )
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer as AutoTokenizer of transformers reads it.

    Ours give the same ids there, but for what genlm.interop.sentence_piece_json names.
    A unigram model may choose another of several segmentations that score the same:
    SentencePiece adds scores up in float32, the library in float64.

    Raises:
      UserError: the kind of tokenizer cannot be written.
    """
    content, extras = _parts(tokenizer)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        _CLEANS: False,
        "add_bos_token": tokenizer.special.bos is not None,
        **extras.settings,
        **extras.names,
    }
    if extras.chat_template is not None:
        config["chat_template"] = extras.chat_template
    ids = {name: i for name, i in control_ids(tokenizer).items() if i is not None}
    for name, value in {
        "tokenizer.json": content,
        _CONFIG: config,
        _MAP: extras.names,
        _GENERATION: extras.generation | ids,
    }.items():
        text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
        (folder / name).write_bytes(text.encode())


def control_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """{'bos_token_id': ..., ...} as config.json and generation_config.json say them.

    Of a model from elsewhere they are its own: what its files said, or what its names
    mean. It may have a BOS that it puts before no text, a PAD that is its STOP, or no
    PAD, where another id stands in here.
    """
    special = tokenizer.special
    bos: int | None = special.bos
    pad: int | None = special.pad
    if isinstance(tokenizer, HuggingFaceTokenizer):
        ids = check_content(tokenizer.content, tokenizer.vocab_size)
        names = tokenizer.extras.names
        bos = ids.get(names.get("bos_token", ""), bos)
        pad = ids.get(names.get("pad_token", ""))
    stops = list(special.all_stops)
    found = bos, stops if len(stops) > 1 else stops[0], pad
    said = {}
    if isinstance(tokenizer, HuggingFaceTokenizer):
        said = {n: i for n, i in tokenizer.extras.generation.items() if n in _IDS}
    return dict(zip(_IDS, found)) | said


def _parts(tokenizer: Tokenizer) -> tuple[dict[str, Any], Extras]:
    """The content of tokenizer.json, and what the other files say."""
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return tokenizer.content, tokenizer.extras
    if isinstance(tokenizer, SentencePieceTokenizer):
        model = tokenizer.model
        names = sentence_piece_json.names(model)
        return sentence_piece_json.content(model), Extras(names=names)
    if isinstance(tokenizer, ControlsTokenizer):
        content, extras = _parts(tokenizer.base)
        known = {token["id"] for token in content["added_tokens"]}
        new = {t: i for t, i in tokenizer.controls.items() if i not in known}
        added = [added_token(text, i, is_special=True) for text, i in new.items()]
        return (
            content | {"added_tokens": content["added_tokens"] + added},
            dataclasses.replace(extras, chat_template=tokenizer.chat_template),
        )
    if isinstance(tokenizer, ByteTokenizer):
        return _byte_content(tokenizer.special), Extras(names=_BYTE_NAMES)
    raise UserError(f"a {type(tokenizer).__name__} cannot be written for Hugging Face")


_BYTE_NAMES = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def _byte_content(special: Special) -> dict[str, Any]:
    """A byte-level BPE that merges nothing."""
    ids = {
        "pad_token": special.pad,
        "bos_token": special.bos,
        "eos_token": special.stop,
    }
    added = [
        added_token(_BYTE_NAMES[name], i, is_special=True)
        for name, i in ids.items()
        if i is not None
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": begin_with("<s>", special.bos),
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": ALPHABET, "merges": []},
    }


def _content(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The tokenizer's file, and what a tokenizer.json of it says."""
    path = folder / "tokenizer.json"
    if path.exists():
        return path, _read_object(path)
    path = folder / "tokenizer.model"
    if not path.exists():
        raise UserError(
            f"{folder} has no tokenizer.json; where transformers is installed, this"
            f" makes it: {_MAKE.format(folder)}"
        )
    try:
        return path, sentence_piece_json.content(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UserError as error:
        raise UserError(
            f"{path} {error}; where transformers is installed, this makes a"
            f" tokenizer.json: {_MAKE.format(folder)}"
        ) from error


def _names(config: dict[str, Any], path: Path) -> dict[str, str]:
    """{'bos_token': '<s>', ...}, as far as `config` names any."""
    found = {name: config[name] for name in NAMES if config.get(name) is not None}
    return {name: _text(value, name, path) for name, value in found.items()}


def _text(value: Any, name: str, path: Path) -> str:
    """A token's text, which a config writes as a string or as an object."""
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise UserError(f"{path}: {name} is {value!r:.60}, which is no token")
    require_text(text, f"{path}: {name}")
    return text


def _listed(config: dict[str, Any], path: Path) -> list[str]:
    """The special tokens that a tokenizer_config.json lists besides the named ones."""
    found: list[str] = []
    for name in ("additional_special_tokens", "extra_special_tokens"):
        tokens = config.get(name) or []
        tokens = list(tokens.values()) if isinstance(tokens, dict) else tokens
        if not isinstance(tokens, list):
            raise UserError(f"{path}: {name} is no list")
        found += [_text(token, name, path) for token in tokens]
    name = "added_tokens_decoder"
    by_id = config.get(name) or {}
    if not isinstance(by_id, dict):
        raise UserError(f"{path}: {name} is no object")
    for token in by_id.values():
        text = _text(token, name, path)
        if isinstance(token, dict) and token.get("special"):
            found.append(text)
    return found


def _kept(config: dict[str, Any], names: Iterable[str], path: Path) -> dict[str, Any]:
    """What `config` says under those names."""
    kept = {name: config[name] for name in names if config.get(name) is not None}
    require_text(json.dumps(kept, ensure_ascii=False), f"{path}: a setting")
    return kept


def _settings(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """What tokenizer_config.json says and an export says again."""
    return {_CLEANS: False} | _kept(config, _SETTINGS, path)


def _generation(folder: Path) -> dict[str, Any]:
    """How the model is to write; ids that only config.json states as well."""
    path = folder / _GENERATION
    of_model = _kept(_read_object(folder / "config.json"), _IDS, path)
    said = of_model | _read_object(path)
    return _kept(said, [name for name in said if name not in _NOT_CARRIED], path)


def _adds_bos(config: dict[str, Any], path: Path) -> bool | None:
    adds = config.get("add_bos_token")
    if adds is not None and not isinstance(adds, bool):
        raise UserError(f"{path}: add_bos_token is {adds!r:.60}, not true or false")
    return adds


def _stop_ids(folder: Path, vocab_size: int) -> list[int]:
    """What ends an answer: of generation_config.json, else of config.json."""
    for name in (_GENERATION, "config.json"):
        found = _read_object(folder / name).get("eos_token_id")
        ids: list[Any] = found if isinstance(found, list) else [found]
        if found is None or not ids:
            continue
        if not all(type(i) is int and 0 <= i < vocab_size for i in ids):
            raise UserError(
                f"{folder / name}: eos_token_id is {found!r:.60}, where ids are from 0"
                f" to {vocab_size - 1}"
            )
        return ids
    return []


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The model's chat template; of several, the one named 'default'."""
    path = folder / "chat_template.jinja"
    if path.exists():
        try:
            return path.read_bytes().decode()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8") from error
    path = folder / "chat_template.json"
    found = _read_object(path).get("chat_template")
    if found is None:
        path, found = folder / _CONFIG, config.get("chat_template")
    if isinstance(found, list):
        named = [t for t in found if isinstance(t, dict) and t.get("name") == "default"]
        found = named[0].get("template") if named else ""
    if found is not None and not (isinstance(found, str) and found):
        raise UserError(f"{path}: chat_template is no template")
    require_text(found or "", f"{path}: chat_template")
    return found


def _read_object(path: Path) -> dict[str, Any]:
    """What a JSON file says; nothing where there is no file.

    Raises:
      UserError: it cannot be read, or is no JSON object.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object")
    return found
