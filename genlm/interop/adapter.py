"""THE ADAPTER OF A RUN: the LoRA change that is already in its parameters, kept apart.

  adapter/adapter.safetensors   PATH/a and PATH/b (of DoRA, /m) of each changed matrix
  adapter/adapter.json          its LoraConfig, and the name of what it changes
Before: `peft.read_adapter`, or a training of such a change. After:
`peft.write_adapter`, and generation with several of them over one base.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from flax import traverse_util

from genlm.errors import UserError
from genlm.interop import hf_config, peft, tensor_file
from genlm.interop.run import find, read_config
from genlm.model import lora, transformer
from genlm.model.config import TransformerConfig
from genlm.model.lora import LoraConfig
from genlm.runs import directory, lineage

FOLDER = "adapter"
_FILE, _ABOUT = "adapter.safetensors", "adapter.json"


class Adapter(NamedTuple):
    """tree: as `lora.lora_specs` has it; base: the name of the model that it changes,
    for PEFT; '' for none."""

    config: LoraConfig
    tree: dict[str, Any]
    base: str


def save(workdir: Path, adapter: Adapter) -> None:
    """Write workdir/adapter.

    Raises:
      UserError: it cannot be written.
    """
    tensors = traverse_util.flatten_dict(adapter.tree, sep="/")
    shapes = {name: x.shape for name, x in tensors.items()}
    about = {"lora": dataclasses.asdict(adapter.config), "base": adapter.base}
    with directory.filling(workdir / FOLDER) as folder:
        tensor_file.write(folder / _FILE, tensors.items(), shapes, "float32")
        directory.write_json(folder / _ABOUT, about)


def load(workdir: Path, model: TransformerConfig) -> Adapter:
    """The adapter of a run.

    Raises:
      UserError: there is none, or it is damaged.
    """
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise UserError(
            f"{workdir} has no adapter; genlm import --base makes such runs"
        )
    outputs = lineage.read(workdir).get("outputs", {})
    own = {n: h for n, h in outputs.items() if n.startswith(f"{FOLDER}/")}
    if changed := lineage.changed(workdir, own):
        raise UserError(f"damaged: {changed[0]}")
    config, base = _about(folder / _ABOUT)
    specs = lora.lora_specs(transformer.param_specs(model), config)
    file = folder / _FILE
    found = tensor_file.read_header(file).tensors
    flat = {}
    for name, spec in traverse_util.flatten_dict(specs, sep="/").items():
        if name not in found or found[name].shape != spec.shape:
            raise UserError(f"{file} is damaged: {name} is not as it was made")
        flat[name] = tensor_file.read(file, name, found[name])
    return Adapter(config, traverse_util.unflatten_dict(flat, sep="/"), base)


def open_for(path: Path, base: Path) -> Adapter:
    """The adapter at `path`, a run that has one or a folder of PEFT's, for the model of
    the run `base`.

    Raises:
      UserError: there is none, it is damaged, or it changes another model.
    """
    model = read_config(base)
    if peft.is_adapter(path):
        change, tree = peft.read_adapter(path, model, hf_config.family_of(model))
        return Adapter(change, tree, peft.base_name(path, model))
    workdir = find(path)
    adapter = load(workdir, read_config(workdir))
    digest = lineage.digest(lineage.read(base).get("outputs"))
    inputs = lineage.read(workdir).get("inputs", {})
    if digest not in [each.get("sha256") for each in inputs.values()]:
        made_from = ", ".join(n for n, each in inputs.items() if "bytes" not in each)
        raise UserError(
            f"{workdir} was made from {made_from}, and not from {base}: its adapter"
            " changes another model"
        )
    return adapter


def _about(path: Path) -> tuple[LoraConfig, str]:
    about = directory.read_json(path)
    try:
        fields = {**about["lora"], "targets": tuple(about["lora"]["targets"])}
        return LoraConfig(**fields), about["base"]
    except (KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{path} is damaged, or of another version of genlm: {error}"
        ) from error
