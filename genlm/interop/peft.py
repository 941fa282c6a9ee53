"""AN ADAPTER OF PEFT: adapter_config.json and safetensors <-> a LoRA change.

Before: a folder that somebody else made, and the shape of the model that it changes.
After: `lora.merge`. PEFT holds lora_A [r, in] and lora_B [out, r] of each layer's
module, and with DoRA lora_magnitude_vector [out]; ours are a_LIr, b_LrO and m_LO.
Modules are named as in the family's files, with `base_model.model.` before. What comes
in is what goes out, bit for bit, in float32.
"""

from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

import jax
import numpy as np

from genlm.errors import UserError
from genlm.interop import folder as folders
from genlm.interop import peft_config, tensor_file
from genlm.interop.json_object import shown
from genlm.model import families, lora, matrices, transformer
from genlm.model.config import TransformerConfig
from genlm.model.families import Slot
from genlm.model.lora import LoraConfig
from genlm.runs import directory

_FILE, _PICKLE = "adapter_model.safetensors", "adapter_model.bin"
_PREFIX, _WEIGHT = "base_model.model.", ".weight"
_NAMES = {"a": "lora_A.weight", "b": "lora_B.weight", "m": "lora_magnitude_vector"}


class Module(NamedTuple):
    """A matrix of one layer, as a family's files name it."""

    name: str
    slots: tuple[Slot, ...]  # several where it holds several of ours, side by side
    inputs: int
    outputs: int
    is_conv: bool  # a Conv1D of transformers, [in, out]

    def tensor(self, factor: str) -> str:
        """The name of a factor (a, b or m) in the file."""
        return f"{_PREFIX}{self.name}.{_NAMES[factor]}"

    @property
    def layer(self) -> int:
        return self.slots[0].at[0]

    @property
    def targets(self) -> tuple[str, ...]:
        """Our paths of what it holds."""
        return tuple(slot.row.ours for slot in self.slots)

    def shapes(self, rank: int, dora: bool) -> dict[str, tuple[int, ...]]:
        """What the file holds of it."""
        shapes: dict[str, tuple[int, ...]] = {
            self.tensor("a"): (rank, self.inputs),
            self.tensor("b"): (self.outputs, rank),
        }
        return shapes | ({self.tensor("m"): (self.outputs,)} if dora else {})


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model."""
    has_model = (folder / "config.json").exists()
    return (folder / peft_config.NAME).is_file() and not has_model


def files(folder: Path) -> list[Path]:
    """What is read of an adapter, for the lineage.

    Raises:
      UserError: it is not there, or a pickle (says how to convert it).
    """
    if not (folder / peft_config.NAME).is_file():
        raise UserError(f"{folder} holds no {peft_config.NAME}: it is no PEFT adapter")
    if not (folder / _FILE).exists() and (folder / _PICKLE).is_file():
        raise UserError(folders.how_to_convert(folder / _PICKLE, _FILE))
    return [folder / peft_config.NAME, folders.inside(folder, _FILE)]


def read_adapter(
    folder: Path, config: TransformerConfig, family: str
) -> tuple[LoraConfig, dict[str, Any]]:
    """The change in a folder: its config, and its tree as `lora.lora_specs` has it,
    float32.

    Args:
      config: of the model that it changes.

    Raises:
      UserError: it is damaged, is no change of such a model, or one that cannot be
        held exactly; names what is wrong.
    """
    _, file = files(folder)
    settings = peft_config.read(folder, config.num_layers)
    found = tensor_file.read_header(file).tensors
    modules = _changed(file, found, settings, config, family)
    _check_shapes(file, found, modules, settings)
    _require_named(file, settings.targets, modules, config, family)
    targets = dict.fromkeys(path for module in modules for path in module.targets)
    lora_config = LoraConfig(
        settings.rank,
        settings.alpha,
        tuple(targets),
        settings.rank_stabilised,
        settings.dropout,
        settings.dora,
    )
    specs = lora.lora_specs(transformer.param_specs(config), lora_config)
    tree = jax.tree.map(lambda spec: np.empty(spec.shape, np.float32), specs)
    ours = lora.factors(tree)
    for module in modules:
        for factor in ours[module.targets[0]]:
            name = module.tensor(factor)
            x = tensor_file.read(file, name, found[name])
            parts = np.split(x, 1 if factor == "a" else len(module.slots))
            for slot in module.slots:
                own = parts[0] if factor == "a" else parts[slot.row.part]
                ours[slot.row.ours][factor][slot.at] = own.T
    return lora_config, tree


def base_name(folder: Path, config: TransformerConfig) -> str:
    """The name that the folder gives to the model it changes; '' for none."""
    return peft_config.read(folder, config.num_layers).base


def _modules(config: TransformerConfig, family: str) -> list[Module]:
    """All matrices that LoRA can change, layer by layer."""
    known = matrices.of(transformer.param_specs(config))
    modules = []
    for name, slots in families.tensor_names(config, family):
        row = slots[0].row
        if row.ours in known:
            shape = families.file_shape(slots, config)
            is_conv = row.file_dims.startswith(row.dims[0])
            inputs, outputs = shape if is_conv else shape[::-1]
            name = name.removesuffix(_WEIGHT)
            modules.append(Module(name, slots, inputs, outputs, is_conv))
    return modules


def _changed(
    file: Path,
    found: Mapping[str, tensor_file.Entry],
    settings: peft_config.Settings,
    config: TransformerConfig,
    family: str,
) -> list[Module]:
    """The modules of every layer whose kind the file has a tensor of."""
    names = {
        m: m.shapes(settings.rank, settings.dora) for m in _modules(config, family)
    }
    modules = list(names)
    kinds = {m.targets for m in modules if not found.keys().isdisjoint(names[m])}
    known = {name for own in names.values() for name in own}
    for name in found:
        if name not in known:
            raise UserError(
                f"{file} holds {shown(name)}, which changes no matrix of attention or"
                f" mlp of this {family} model"
            )
    if not kinds:
        raise UserError(f"{file} holds no tensors")
    return [module for module in modules if module.targets in kinds]


def _check_shapes(
    file: Path,
    found: Mapping[str, tensor_file.Entry],
    modules: list[Module],
    settings: peft_config.Settings,
) -> None:
    """Make sure that both tensors of each module are there, and as large as they are to
    be."""
    for module in modules:
        for name, shape in module.shapes(settings.rank, settings.dora).items():
            if name not in found:
                raise UserError(
                    f"{file} lacks the tensor {name}; a matrix is changed in all layers"
                    " or in none"
                )
            if found[name].shape != shape:
                raise UserError(
                    f"{file}: the tensor {name} is of shape {found[name].shape}, but"
                    f" r = {settings.rank} and the model ask for {shape}"
                )


def _require_named(
    file: Path,
    targets: tuple[str, ...] | None,
    modules: list[Module],
    config: TransformerConfig,
    family: str,
) -> None:
    """Make sure that the config names what the file holds, as PEFT matches names."""
    if targets is None:
        return
    ends, held = set(targets), {module.name for module in modules}
    for tensor, _ in families.tensor_names(config, family):
        name = tensor.removesuffix(_WEIGHT)
        words = name.split(".")
        is_named = any(".".join(words[i:]) in ends for i in range(len(words)))
        if is_named and name not in held:
            raise UserError(
                f"{file} lacks a change of {name}, which target_modules has"
            )
        if name in held and not is_named:
            raise UserError(
                f"{file} changes {name}, which target_modules does not name"
            )


def write_adapter(
    out: Path,
    lora_config: LoraConfig,
    tree: Mapping[str, Any],
    config: TransformerConfig,
    family: str,
    base: str,
    dtype: str = "float32",
) -> None:
    """Write a change as a folder that PEFT opens; whole, or as it was before.

    Args:
      tree: as `lora.lora_specs` has it.
      base: the name of the model that it changes; '' for none.
      dtype: of the files; see `tensor_file.WRITTEN`.

    Raises:
      UserError: the family has matrices in one that are not changed as one, a number
        is too large for `dtype`, or `out` holds something else.
    """
    ours = lora.factors(jax.tree.map(np.asarray, tree))
    modules = [
        m for m in _modules(config, family) if not ours.keys().isdisjoint(m.targets)
    ]
    for module in modules:
        _require_one(module, ours)
    shapes: dict[str, tuple[int, ...]] = {}
    for module in modules:
        shapes |= module.shapes(lora_config.rank, lora_config.dora)
    is_conv = any(module.is_conv for module in modules)
    targets = _ends(modules, config, family)
    with folders.exporting(out) as partial:
        tensor_file.write(partial / _FILE, _tensors(modules, ours), shapes, dtype)
        content = peft_config.content(lora_config, targets, base, is_conv)
        directory.write_json(partial / peft_config.NAME, content)


def _require_one(module: Module, ours: Mapping[str, Any]) -> None:
    """Make sure that what a module holds of ours is changed through one lora_A."""
    for path in module.targets:
        if path not in ours:
            raise UserError(f"{module.name} is one matrix, but {path} is not changed")
    first, *rest = (ours[path]["a"][module.layer] for path in module.targets)
    if any(not np.array_equal(first.view(np.int32), a.view(np.int32)) for a in rest):
        parts = " and ".join(module.targets)
        raise UserError(f"{module.name} is one matrix, but {parts} share no a")


def _tensors(
    modules: list[Module], ours: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    for module in modules:
        own = [ours[path] for path in module.targets]
        for factor in own[0]:
            parts = own[:1] if factor == "a" else own
            x = np.concatenate([each[factor][module.layer].T for each in parts])
            yield module.tensor(factor), x


def _ends(modules: list[Module], config: TransformerConfig, family: str) -> list[str]:
    """What PEFT is to look for at the end of names: the last word, and the one before
    where the last word is of other modules too."""
    changed = {module.name for module in modules}
    others = {module.name for module in _modules(config, family)} - changed
    unclear = {_end(name, 1) for name in others}
    return sorted({_end(n, 2 if _end(n, 1) in unclear else 1) for n in changed})


def _end(name: str, words: int) -> str:
    return ".".join(name.split(".")[-words:])
