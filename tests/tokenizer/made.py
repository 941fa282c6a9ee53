"""Small tokenizers made by the `tokenizers` library from real prose, of the kinds that
models have, and SmolLM2's own, where its package is installed.
"""

import functools
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from genlm.interop import bring
from genlm.interop.gguf import open_gguf
from genlm.interop.hf_tokenizer import write_tokenizer
from tests.interop import gguf_files

PROSE = [topics[name] for name in sorted(topics)[:60]]
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA = ("<unk>", "<s>", "</s>")


def _content(tokenizer: Any) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())


@functools.cache
def byte_level() -> dict[str, Any]:
    """As GPT-2 and Qwen: all bytes, ChatML's tokens, a marker that is not special."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(CHATML),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROSE, trainer)
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    return _content(tokenizer)


@functools.cache
def byte_fallback() -> dict[str, Any]:
    """As Llama 2: «▁» for a space, one in front, bytes to fall back on."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=[*LLAMA, *pieces], show_progress=False
    )
    tokenizer.train_from_iterator(PROSE, trainer)
    content = _content(tokenizer)
    prepend = {"type": "Prepend", "prepend": "▁"}
    to_piece = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    to_space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    steps = [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    return content | {
        "added_tokens": content["added_tokens"][: len(LLAMA)],
        "model": content["model"] | {"byte_fallback": True},
        "normalizer": {"type": "Sequence", "normalizers": [prepend, to_piece]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": steps},
    }


@functools.cache
def unigram() -> dict[str, Any]:
    """As T5: pieces with scores, among them the control tokens' own texts; no bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600,
        special_tokens=list(LLAMA),
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROSE, trainer)
    return _content(tokenizer)


@functools.cache
def word_level() -> dict[str, Any]:
    """Whole words; what is none of them is <unk>."""
    return _words(600, LLAMA)


@functools.cache
def small() -> dict[str, Any]:
    """Whole words with ChatML's tokens: 60 ids, which fit the tiny models of
    tests/golden/families."""
    return _words(60, ("<unk>", *CHATML))


def _words(vocab_size: int, special_tokens: tuple[str, ...]) -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROSE, trainer)
    return _content(tokenizer)


KINDS = {
    "byte_level": byte_level,
    "byte_fallback": byte_fallback,
    "unigram": unigram,
    "word_level": word_level,
}


def smollm2(folder: Path) -> Path:
    """`folder` with SmolLM2's tokenizer, read out of its GGUF file and written as an
    export does; skips without the package."""
    path = gguf_files.smollm2()
    source = open_gguf(path)
    tokenizer = bring.open_tokenizer(path, source, source.config["vocab_size"])
    write_tokenizer(tokenizer, folder)
    return folder
