"""SPANS: a text and what stands before it -> ids of which the last are scored.

Before: the rows of a task, or a text. After: likelihood. The rules are those of lm-eval
(https://github.com/EleutherAI/lm-evaluation-harness), so that its figures and ours are
of the same ids: spaces at a context's end go over to what follows; both are encoded as
one text, of which as many ids as the context alone has are not scored.
"""

from typing import Iterator, NamedTuple

from genlm.tokenizer.base import Tokenizer


class Span(NamedTuple):
    """ids[first:] are scored, each given those before it."""

    ids: list[int]
    first: int


class Piece(NamedTuple):
    """Of a span, ids[start:end] are read and the last `num` of them scored."""

    start: int
    end: int
    num: int


def of_pair(tokenizer: Tokenizer, context: str, continuation: str) -> Span:
    """`continuation`, which brings the space before it along, after `context`."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    if not stripped:
        return of_text(tokenizer, continuation)
    before = _encode(tokenizer, stripped)
    after = _encode(tokenizer, stripped + continuation)[len(before) :]
    if not after:  # the continuation melted into the context's last token
        before, after = before[:-1], before[-1:]
    bos = tokenizer.special.bos
    before = before if bos is None else [bos, *before]
    if not before:
        before = [first_id(tokenizer)]
    return Span([*before, *after], len(before))


def of_text(tokenizer: Tokenizer, text: str) -> Span:
    """A text with nothing before it."""
    return Span([first_id(tokenizer), *_encode(tokenizer, text)], 1)


def first_id(tokenizer: Tokenizer) -> int:
    """What a text without a context is read after: BOS; else the token that the model's
    files name so, though they put it nowhere (as lm-eval does); else STOP."""
    from genlm.tokenizer.huggingface import HuggingFaceTokenizer

    if tokenizer.special.bos is not None:
        return tokenizer.special.bos
    if isinstance(tokenizer, HuggingFaceTokenizer):
        named = tokenizer.extras.names.get("bos_token")
        if named in tokenizer.controls:
            return tokenizer.controls[named]
    return tokenizer.special.stop


def pieces(span: Span, length: int) -> Iterator[Piece]:
    """What is read at once, with at most `length` ids before the last one; each id of
    the span's scored ones is scored once, after as many as there is room for."""
    scored = span.first
    while scored < len(span.ids):
        end = min(scored + length, len(span.ids))
        yield Piece(max(0, end - 1 - length), end, end - scored)
        scored = end


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text.encode("utf-8", "surrogateescape")).tolist()
