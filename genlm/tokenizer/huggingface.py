"""HUGGING FACE: the tokenizer of a model from elsewhere, behind the protocol.

Before: genlm.interop.hf_tokenizer, which reads one from a folder. The `tokenizers`
library does the work; what is here are bytes, control tokens and the file.
https://github.com/huggingface/tokenizers

Untrusted text. The library's own untrusted mode (`encode_special_tokens`) parses none
of the added tokens that are marked special. It guarantees no more: the model beneath
may still find such a token as a piece (Unigram holds «</s>» like any word). Here a text
in which that happens is encoded once more with those pieces out of reach. Added tokens
that are *not* marked special (often «<tool_call>», runs of spaces) are text to the
library, and text to this class: a user may spell them as anybody may.

Bytes. decode(encode(x)) is x for any bytes where the vocabulary is of bytes (byte-level
BPE with all 256, as GPT-2's), after the model's own normalisation: Qwen's composes
characters (NFC), Llama 2's puts a space in front, which decoding takes away again.
Bytes that are not UTF-8 become byte tokens; the stretches between them are encoded one
by one. Where a byte has no token, encode refuses it, and never drops it as the library
does. A vocabulary without bytes has one token for all that it cannot spell, as in the
library.
"""

import copy
import dataclasses
import functools
import json
from pathlib import Path
import re
import secrets
from typing import Any, Iterable

import numpy as np

from genlm.errors import UserError
from genlm.tokenizer import spelling
from genlm.tokenizer.special import Special

OWN_FILE = "tokenizer.json"
_LIBRARY_FILE = "huggingface.json"
_TEMPLATE_FILE = "chat_template.jinja"
_INVALID = re.compile("[\udc80-\udcff]+")


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a model's tokenizer brings besides: a chat template, the names that the
    template may use ('bos_token': '<s>', ...), and what is only carried on to an
    export: settings of tokenizer_config.json and of generation_config.json."""

    chat_template: str | None = None
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)


class HuggingFaceTokenizer:
    """A tokenizer.json of the `tokenizers` library with a model's control tokens."""

    def __init__(
        self,
        content: dict[str, Any],
        *,
        vocab_size: int,
        special: Special,
        extras: Extras = Extras(),
    ):
        """
        Args:
          content: what tokenizer.json says; truncation and padding are left aside.
          vocab_size: the model's, padding rows of its embedding counted; ids past the
            tokenizer's own spell nothing.

        Raises:
          UserError: the library is not installed.
          ValueError: it refuses the content.
        """
        self.content = content | {"truncation": None, "padding": None}
        self.vocab_size, self.special, self.extras = vocab_size, special, extras
        self.chat_template, self.names = extras.chat_template, extras.names
        self._trusted = build(self.content)
        self._untrusted = build(self.content)
        self._untrusted.encode_special_tokens = True
        self.controls = {
            token["content"]: token["id"]
            for token in content.get("added_tokens") or []
            if token["special"]
        }
        for text, i in self.controls.items():
            if (counted := self._trusted.token_to_id(text)) != i:
                raise ValueError(f"token {text!r} has id {i}, but comes as {counted}")
        unknown = _unknown(content["model"])
        self._forged = frozenset(i for t, i in self.controls.items() if t != unknown)
        self._names = re.compile(
            "|".join(map(re.escape, sorted(self.controls, key=len, reverse=True)))
            or r"(?!)"
        )
        self._spelling = spelling.of(
            content, self._trusted, set(self.controls.values())
        )

    def encode(self, text: bytes) -> np.ndarray:
        """Ids [length] (int32) of `text`, in which nothing becomes a control token.

        Raises:
          UserError: a byte of it has no token.
        """
        if lost := self._spelling.first_without_token(text):
            raise UserError(
                f"byte 0x{lost.hex()} has no token in this model's vocabulary; take it"
                " out of the text"
            )
        ids: list[int] = []
        end = 0
        # surrogateescape turns each invalid byte into one lone surrogate
        string = text.decode("utf-8", "surrogateescape")
        for match in _INVALID.finditer(string):
            ids += self._encode_untrusted(string[end : match.start()])
            ids += self._byte_ids(match.group().encode("utf-8", "surrogateescape"))
            end = match.end()
        ids += self._encode_untrusted(string[end:])
        return np.asarray(ids, np.int32)

    def encode_trusted(self, text: str) -> np.ndarray:
        """Ids [length] (int32) of a template's `text`: control tokens are parsed."""
        return np.asarray(_ids(self._trusted, text), np.int32)

    def encode_parts(
        self, parts: Iterable[tuple[str, bool]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of (text, is_trusted) parts, encoded as one text: ids [length] (int32), and
        the part [length] that each ends in.

        Tokens may reach over the border of two parts, as they would in the whole text,
        but control tokens are parsed in trusted parts alone.
        """
        sealed, seals = self._sealed
        texts = [
            self._names.sub(lambda m: seals[m.group()], text) if is_trusted else text
            for text, is_trusted in parts
        ]
        found = _encoding(sealed, "".join(texts))
        ends = np.cumsum([len(text) for text in texts])
        last = np.asarray([end - 1 for _, end in found.offsets], np.int64)
        part = np.searchsorted(ends, np.maximum(last, 0), side="right")
        return np.asarray(found.ids, np.int32), part

    def has_control(self, text: str) -> bool:
        """Whether `text` holds what a trusted text would spell a control token with."""
        return self._names.search(text) is not None

    def count_controls(self, text: str) -> int:
        return len(self._names.findall(text))

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` spell; control tokens spell nothing.

        For whole texts it is the library's decode(skip_special_tokens=True); a
        character that begins or ends outside of `ids` gives the bytes that are inside.
        """
        return self._spelling.decode(map(int, ids))

    def save(self, directory: Path) -> None:
        files = {
            OWN_FILE: json.dumps(
                {
                    "kind": "huggingface",
                    "vocab_size": self.vocab_size,
                    "special": self.special._asdict(),
                    "names": self.extras.names,
                    "settings": self.extras.settings,
                    "generation": self.extras.generation,
                },
                indent=2,
            ),
            _LIBRARY_FILE: json.dumps(self.content, ensure_ascii=False),
        }
        if self.extras.chat_template is not None:
            files[_TEMPLATE_FILE] = self.extras.chat_template
        for name, text in files.items():
            (directory / name).write_bytes(text.encode())

    @classmethod
    def load(cls, directory: Path) -> "HuggingFaceTokenizer":
        """The tokenizer that `save` wrote.

        Raises:
          UserError: a file is not there, or damaged.
        """
        path = directory / OWN_FILE
        try:
            own = json.loads(path.read_bytes())
            special = own["special"] | {"stops": tuple(own["special"]["stops"])}
            path = directory / _TEMPLATE_FILE
            template = path.read_bytes().decode() if path.exists() else None
            path = directory / _LIBRARY_FILE
            content = json.loads(path.read_bytes())
            return cls(
                content,
                vocab_size=own["vocab_size"],
                special=Special(**special),
                extras=Extras(
                    template,
                    own["names"],
                    own.get("settings", {}),
                    own.get("generation", {}),
                ),
            )
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {_one_line(error)}") from error

    def _encode_untrusted(self, text: str) -> list[int]:
        ids = _ids(self._untrusted, text)
        if self._forged.isdisjoint(ids):
            return ids
        return _ids(self._sealed[0], text)

    def _byte_ids(self, raw: bytes) -> list[int]:
        ids = [self._spelling.byte_ids.get(b) for b in raw]
        if None in ids:
            raise UserError(
                f"byte 0x{raw[ids.index(None)]:02x} is not UTF-8, and this model's"
                " vocabulary has no token for it; take it out of the text"
            )
        return [i for i in ids if i is not None]

    @functools.cached_property
    def _sealed(self) -> tuple[Any, dict[str, str]]:
        """The tokenizer with control tokens under names that nobody can know, and those
        names: drawn anew in every process, they reach neither a file nor an answer."""
        secret = secrets.token_hex(16)
        seals = {text: f"\ufdd0{secret}.{i}\ufdd1" for text, i in self.controls.items()}
        return build(_renamed(self.content, seals)), seals


def build(content: dict[str, Any]) -> Any:
    """The library's tokenizer of a tokenizer.json's content.

    Raises:
      UserError: the library is not installed.
      ValueError: it refuses the content.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "a Hugging Face tokenizer needs tokenizers: pip install 'genlm[hf]'"
        ) from error
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(content))
    except BaseException as error:  # a panic of its Rust code is no Exception
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            reason = str(error).split("\n")[0][:200]
            raise ValueError(f"the tokenizers library refuses it: {reason}") from error
        raise


def _one_line(error: Exception) -> str:
    lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return lacks.split("\n")[0][:200]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return _encoding(tokenizer, text).ids


def _encoding(tokenizer: Any, text: str) -> Any:
    """What the library makes of `text`, with nothing put around it.

    Raises:
      UserError: it has characters that the vocabulary cannot spell, nor call unknown.
    """
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except Exception as error:  # the library raises no narrower one
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"this model's tokenizer refuses the text: {reason}") from error


def _unknown(model: dict[str, Any]) -> str | None:
    """The piece that stands for what the vocabulary cannot spell."""
    if model.get("type") == "Unigram":
        i = model.get("unk_id")
        return None if i is None else model["vocab"][i][0]
    return model.get("unk_token")


def _renamed(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """`content` with other names for some of its tokens."""
    content = copy.deepcopy(content) | {"post_processor": None}
    for token in content["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "normalized": False}
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(t, t): i for t, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(t, t), score] for t, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & names.keys()]
    return content
