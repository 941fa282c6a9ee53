"""A HUGGING FACE FOLDER: config.json and safetensors, opened with care and written.

Before: a folder that somebody else made. After: `weights.load`. Only JSON and
safetensors are read, and nothing in the folder is run. The way back is `exporting`,
with `write_folder` inside.
"""

import contextlib
import dataclasses
import itertools
import json
import math
from pathlib import Path
import re
import shlex
from typing import Any, Iterable, Iterator, Mapping

import numpy as np

from genlm.errors import UserError
from genlm.interop import json_object, tensor_file
from genlm.interop.json_object import shown
from genlm.runs import directory

_CONFIG, _ONE, _INDEX = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
_WRITTEN = re.compile(  # by an export
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map"
    r"|adapter_config|model\.safetensors\.index)\.json"
    r"|(model|adapter_model|model-\d+-of-\d+)\.safetensors"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT_FOLDER = (
    "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T;"
    " M.from_pretrained({0}).save_pretrained({1});"
    " T.from_pretrained({0}).save_pretrained({1})"
)
_CONVERT_FILE = (
    "import torch, safetensors.torch as s;"
    " s.save_file({{k: v.clone() for k, v in torch.load({0}, map_location={2},"
    " weights_only=True).items()}}, {1})"
)


@dataclasses.dataclass(frozen=True)
class Folder:
    """A model in a folder, behind the protocol `source.Source`."""

    path: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, tuple[Path, tensor_file.Entry]]

    def read(self, name: str) -> np.ndarray:
        """One tensor, float32.

        Raises:
          UserError: its file is no longer whole.
        """
        path, entry = self.places[name]
        return tensor_file.read(path, name, entry)


def open_folder(path: Path) -> Folder:
    """The model in a folder: its config, and where its tensors are.

    Raises:
      UserError: it holds no model that can be read safely; says what would work.
    """
    if path.suffix in _PICKLES and path.is_file():
        raise UserError(how_to_convert(path))
    if path.is_file():
        raise UserError(f"{path} is a file; give the folder that it stands in")
    if not path.is_dir():
        raise UserError(f"no folder {path}")
    config = _read_config(path)
    places = {
        name: (file, entry)
        for file, names in _files(path).items()
        for name, entry in _listed(file, names).items()
    }
    shapes = {name: entry.shape for name, (_, entry) in places.items()}
    return Folder(path, config, shapes, places)


def _read_config(folder: Path) -> dict[str, Any]:
    """config.json, of a model whose code and weights are plain."""
    path = folder / _CONFIG
    if not path.is_file():
        raise UserError(f"{folder} holds no {_CONFIG}")
    config = json_object.read(path)
    if config.pop("auto_map", None) is not None:
        raise UserError(
            f"{path} has auto_map: the model comes with code of its own, which is never"
            " run here"
        )
    for key in ("quantization_config", "compression_config"):
        if (quantized := config.pop(key, None)) is not None:
            method = ""
            if isinstance(quantized, dict) and "quant_method" in quantized:
                method = f" ({shown(quantized['quant_method'])})"
            raise UserError(
                f"{path} has {key}{method}: its weights are quantized; import the model"
                " that they were made from"
            )
    return config


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The files of the model, with its tensors' names where an index lists them."""
    if (folder / _ONE).exists():
        return {inside(folder, _ONE): None}
    if (folder / _INDEX).is_file():
        return _read_index(folder)
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return {inside(folder, found[0].name): None}
    if found:
        names = shown([p.name for p in found])
        raise UserError(f"{folder} holds no {_INDEX}, but several files: {names}")
    pickles = sorted(p for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickles:
        raise UserError(how_to_convert(pickles[0]))
    raise UserError(f"{folder} holds no {_ONE} and no {_INDEX}")


def _read_index(folder: Path) -> dict[Path, set[str] | None]:
    """The shards that an index names, and what each is to hold."""
    path = folder / _INDEX
    index = json_object.read(path)
    table = index.pop("weight_map", None)
    if not isinstance(table, dict) or not table:
        raise UserError(f"{path} is damaged: it has no weight_map")
    shards: dict[str, set[str]] = {}
    for name, file in table.items():
        if not isinstance(file, str) or not file.endswith(".safetensors"):
            raise UserError(
                f"{path} is damaged: it says that {shown(name)} is in {shown(file)}"
            )
        shards.setdefault(file, set()).add(name)
    return {inside(folder, file): names for file, names in shards.items()}


def inside(folder: Path, name: str) -> Path:
    """The file of that name in the folder itself.

    A link out of it is followed where a cache of Hugging Face has it: from
    snapshots/<revision>/ to the blobs/ beside.

    Raises:
      UserError: there is none, or it is elsewhere.
    """
    if Path(name).name != name or "\0" in name:
        raise UserError(f"{folder / _INDEX} points outside its folder: {shown(name)}")
    path, home = folder / name, folder.resolve()
    try:
        real = path.resolve()
        is_there = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot read {folder}/{shown(name)}: {error}") from error
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    if real.parent not in homes:
        raise UserError(f"{path} is a link that points outside its folder: {real}")
    if not is_there:
        raise UserError(f"{folder} lacks the file {shown(name)}")
    return path


def _listed(file: Path, names: set[str] | None) -> dict[str, tensor_file.Entry]:
    """The tensors of a file, which are those that the index lists."""
    tensors = tensor_file.read_header(file).tensors
    if names is not None:
        for name in sorted(names - tensors.keys()):
            raise UserError(f"{file} lacks the tensor {shown(name)} of its index")
        for name in sorted(tensors.keys() - names):
            raise UserError(
                f"{file} holds {shown(name)}, which its index does not list"
            )
    return tensors


def how_to_convert(path: Path, name: str = _ONE) -> str:
    """What to do with weights in a pickle; `name` is of the file that comes of it."""
    folder, file = str(path.parent), path.parent / name
    if path.name.startswith("pytorch_model"):
        made = f"{path.parent.resolve().name}-safetensors"
        code = _CONVERT_FOLDER.format(json.dumps(folder), json.dumps(made))
    else:
        code = _CONVERT_FILE.format(
            json.dumps(str(path)), json.dumps(str(file)), json.dumps("cpu")
        )
    return (
        f"{path} is a pickle, which can run code when it is opened; in an environment"
        f" with torch and transformers: python -c {shlex.quote(code)}"
    )


@contextlib.contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` after the block.

    Raises:
      UserError: `folder` holds something that is no earlier export, or cannot be
        written.
    """
    if folder.exists() and not _may_go(folder):
        raise UserError(f"{folder} holds something else; export to a new folder")
    with directory.filling(folder.resolve()) as partial:
        yield partial


def _may_go(folder: Path) -> bool:
    """Whether a folder is empty, or an earlier export to which nothing was added."""
    if not folder.is_dir():
        return False
    entries = list(folder.iterdir())
    if not entries:
        return True
    if not all(_WRITTEN.fullmatch(p.name) and p.is_file() for p in entries):
        return False
    files = [p for p in entries if p.suffix == ".safetensors"]
    try:
        return bool(files) and all(
            tensor_file.read_header(file).metadata == tensor_file.METADATA
            for file in files
        )
    except UserError:
        return False


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Iterable[tuple[str, np.ndarray]],
    *,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write config.json and the tensors, one at a time, into an empty folder.

    Args:
      tensors: in the order of `shapes`.
      dtype: of the files; see `tensor_file.WRITTEN`.
      max_shard_bytes: of a file, where no single tensor is larger.

    Raises:
      UserError: a number is too large for `dtype`.
      OSError: they cannot be written.
    """
    item = tensor_file.WRITTEN[dtype][1].itemsize
    sizes = {name: math.prod(shape) * item for name, shape in shapes.items()}
    shards = _shards(sizes, max_shard_bytes)
    files = [_ONE]
    if len(shards) > 1:
        files = [
            f"model-{i:05}-of-{len(shards):05}.safetensors"
            for i in range(1, len(shards) + 1)
        ]
    rest = iter(tensors)
    for file, names in zip(files, shards):
        of_shard = {name: shapes[name] for name in names}
        part = itertools.islice(rest, len(names))
        tensor_file.write(folder / file, part, of_shard, dtype)
    if len(shards) > 1:
        table = {name: file for file, names in zip(files, shards) for name in names}
        total = {"total_size": sum(sizes.values())}
        directory.write_json(folder / _INDEX, {"metadata": total, "weight_map": table})
    directory.write_json(folder / _CONFIG, {**config, "torch_dtype": dtype})


def _shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in their order, as few groups as needed of at most `limit` bytes each."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
