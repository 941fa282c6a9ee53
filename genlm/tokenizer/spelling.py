"""SPELLING: the bytes of each token of a Hugging Face tokenizer.

Before: a tokenizer.json. After: genlm.tokenizer.huggingface. The library decodes to
characters, and a token that ends inside one becomes «�»; here bytes stay bytes, for the
two kinds of vocabulary that have them:
  byte level    each byte is one of 256 printable characters (Radford et al. 2019,
                `bytes_to_unicode` of https://github.com/openai/gpt-2)
  byte fallback a byte is the token <0x0A>; «▁» is a space (SentencePiece)
Any other is decoded by the library.
"""

from typing import Any, Callable, Iterable, NamedTuple, Protocol


class Spelling(Protocol):
    """How ids become bytes."""

    byte_ids: dict[int, int]  # of the bytes that have a token of their own

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; those of no token, and control tokens, spell nothing."""

    def first_without_token(self, text: bytes) -> bytes:
        """The first byte of `text` that no token can spell; b'' where there is none."""


class _Strip(NamedTuple):
    """Taken from the ends of the whole text: up to so many of a character."""

    character: bytes = b" "
    start: int = 0
    stop: int = 0


class _Table:
    """Tokens whose bytes are known one by one."""

    def __init__(
        self,
        pieces: dict[int, bytes],
        first: dict[int, bytes],
        byte_ids: dict[int, int],
        strip: _Strip,
        *,
        is_byte_level: bool,
    ):
        self._pieces, self._first, self._strip = pieces, first, strip
        self.byte_ids = byte_ids
        self._spelt = bytes(byte_ids) if is_byte_level else bytes(range(256))

    def decode(self, ids: Iterable[int]) -> bytes:
        known = [i for i in ids if i in self._pieces]
        if not known:
            return b""
        rest = b"".join(self._pieces[i] for i in known[1:])
        return _stripped(self._first[known[0]] + rest, self._strip)

    def first_without_token(self, text: bytes) -> bytes:
        return text.translate(None, delete=self._spelt)[:1]


class _Library:
    """Tokens that only the library knows how to join."""

    byte_ids: dict[int, int] = {}

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def decode(self, ids: Iterable[int]) -> bytes:
        known = [i for i in ids if 0 <= i < 1 << 32]
        return self._tokenizer.decode(known, skip_special_tokens=True).encode()

    def first_without_token(self, text: bytes) -> bytes:
        return b""


def of(content: dict[str, Any], tokenizer: Any, silent: set[int]) -> Spelling:
    """How the tokenizer of a tokenizer.json's `content` spells.

    Args:
      tokenizer: the same, built by the library.
      silent: ids of control tokens, which spell nothing.
    """
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    tokens = {i: token for token, i in vocab.items() if i not in silent}
    decoder = content.get("decoder") or {}
    steps = decoder["decoders"] if decoder.get("type") == "Sequence" else [decoder]
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        pieces = {i: _byte_level(token) for i, token in tokens.items()}
        byte_ids = {b: vocab[c] for c, b in ALPHABET.items() if vocab.get(c) in tokens}
        return _Table(pieces, pieces, byte_ids, _Strip(), is_byte_level=True)
    if (plan := _plan(steps)) is None:
        return _Library(tokenizer)
    changes, first_changes, strip = plan
    pieces = {i: _changed(token, changes) for i, token in tokens.items()}
    first = {i: _changed(token, first_changes) for i, token in tokens.items()}
    has_bytes = "ByteFallback" in kinds
    named = {b: vocab.get(f"<0x{b:02X}>") for b in range(256)} if has_bytes else {}
    byte_ids = {b: i for b, i in named.items() if i in tokens}
    return _Table(pieces, first, byte_ids, strip, is_byte_level=False)


_Change = Callable[[str | bytes], str | bytes]


def _plan(
    steps: list[dict[str, Any]],
) -> tuple[list[_Change], list[_Change], _Strip] | None:
    """What a decoder's steps do to a token, to the first token, and to the whole text;
    None where they do more."""
    changes: list[_Change] = []
    first: list[_Change] = []
    strip, is_whole = _Strip(), False
    for step in steps:
        kind = step.get("type")
        if kind == "Strip" and is_whole:
            strip = _Strip(step["content"].encode(), step["start"], step["stop"])
        elif is_whole:
            return None
        elif kind == "Fuse":
            is_whole = True
        elif kind == "Replace" and "String" in step["pattern"]:
            change = _replace(step["pattern"]["String"], step["content"])
            changes.append(change)
            first.append(change)
        elif kind == "ByteFallback":
            changes.append(_byte_of)
            first.append(_byte_of)
        elif kind == "Metaspace":
            is_kept = step.get("prepend_scheme", "always") == "never"
            changes.append(_replace(step["replacement"], " "))
            first.append(_replace(step["replacement"], " " if is_kept else ""))
        else:
            return None
    return changes, first, strip


def _replace(old: str, new: str) -> _Change:
    return lambda token: token.replace(old, new) if isinstance(token, str) else token


def _byte_of(token: str | bytes) -> str | bytes:
    if isinstance(token, str) and len(token) == 6 and token.startswith("<0x"):
        try:
            return bytes.fromhex(token[3:5]) if token[5] == ">" else token
        except ValueError:
            pass
    return token


def _changed(token: str, changes: list[_Change]) -> bytes:
    now: str | bytes = token
    for change in changes:
        now = change(now)
    return now.encode() if isinstance(now, str) else now


def _stripped(text: bytes, strip: _Strip) -> bytes:
    size, start, end = len(strip.character), 0, len(text)
    while start < strip.start * size and text.startswith(strip.character, start):
        start += size
    first = max(start, len(text) - strip.stop * size)
    while first < end and text.endswith(strip.character, start, end):
        end -= size
    return text[start:end]


def _byte_level(token: str) -> bytes:
    """What a token spells; one with a character that is no byte's is an added token,
    which spells itself."""
    try:
        return bytes(ALPHABET[c] for c in token)
    except KeyError:
        return token.encode()


def _alphabet() -> dict[str, int]:
    """The character of each byte: itself where it can be seen, else one from 256 up."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [b for b in range(256) if b not in seen]
    return {chr(b): b for b in seen} | {chr(256 + n): b for n, b in enumerate(unseen)}


ALPHABET = _alphabet()  # character -> byte
