"""IMPORT: a public model -> a run directory with a checkpoint of step 0.

Before: a Hugging Face folder or a GGUF file; or, with `base`, an adapter of PEFT and
the run that it changes, of which the new one is a copy with the change merged in and
the adapter kept beside (`interop.adapter`). After: generate, chat, evaluate, training
that goes on from it (pretrain's `source`), export. The model's own numbers are kept as
they are, in float32.
"""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from genlm.errors import UserError
from genlm.interop import adapter, bring, hf_config, peft
from genlm.interop import run as interop
from genlm.interop import weights
from genlm.interop.adapter import Adapter
from genlm.interop.run import Opened
from genlm.model import lora, transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts, specs
from genlm.runs import checkpoint, directory, lineage
from genlm.runs.saving import Checkpoints
from genlm.stages import rerun

READS = ("seed", "path", "base")


def read(config: ConfigDict) -> None:
    """There is nothing to check before the files are opened."""


def run(config: ConfigDict, workdir: Path) -> None:
    """Write the model at `config.path` into `workdir`, or, with `config.base`, that
    run's model as the adapter at `config.path` changes it."""
    path = bring.locate(config.path)
    base = interop.find(Path(config.base)) if config.base else None
    inputs = _inputs(path, base, lineage.read(workdir).get("inputs", {}))
    if rerun.is_finished(config, workdir, inputs):
        print(f"{workdir}: holds {config.path} already", flush=True)
        return
    hosts.setup()
    if base is None:
        model, change = _open_model(config.path, path), None
    else:
        model, change = _open_changed(config.path, path, base)
    _check_finite(model.params)
    directory.create(workdir)
    rerun.save_config(config, workdir)
    names = ["model.json", "tokenizer", "checkpoints/0.0.json"]
    if change is not None:
        adapter.save(workdir, change)
        names.append(adapter.FOLDER)
    _save(workdir, model.params)
    interop.save_model(workdir, model.config, model.tokenizer)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, names))


def _inputs(path: Path, base: Path | None, known: dict[str, Any]) -> dict[str, Any]:
    """What the run is made from, for the lineage."""
    if base is None:
        if peft.is_adapter(path):
            raise UserError(
                f"{path} is an adapter of PEFT; say with --base which run it changes"
            )
        return lineage.of_inputs(bring.files(path), known)
    outputs = lineage.read(base).get("outputs")
    return {
        **lineage.of_inputs(peft.files(path), known),
        str(base): {"sha256": lineage.digest(outputs)},
    }


def _open_model(name: str, path: Path) -> Opened:
    """A public model, opened as a run is."""
    source = bring.open_source(path)
    model = TransformerConfig(**hf_config.to_config(source.config))
    tokenizer = bring.open_tokenizer(path, source, model.vocab_size)
    tree = transformer.param_specs(model)
    size = f"{specs.count(tree):,} parameters"
    hosts.require_memory(specs.shapes(tree), size, "take a machine with more")
    print(f"{name}: {source.config['model_type']}, {size}", flush=True)
    params = jax.device_put(weights.load(source, model))  # on a CPU without a copy
    return Opened(params, model, tokenizer, 0)


def _open_changed(name: str, path: Path, base: Path) -> tuple[Opened, Adapter]:
    """The model of the run `base` with an adapter merged in, and the adapter."""
    model = interop.read_config(base)
    change, tree = peft.read_adapter(path, model, hf_config.family_of(model))
    print(f"{name}: rank {change.rank} on {', '.join(change.targets)}", flush=True)
    opened = interop.open_run(base)
    merge = jax.jit(lora.merge, static_argnums=2, donate_argnums=0)
    params = merge(opened.params, tree, change)
    kept = Adapter(change, tree, peft.base_name(path, model))
    return opened._replace(params=params), kept


def _check_finite(params: Any) -> None:
    is_finite = jax.jit(lambda x: jax.numpy.isfinite(x).all())  # no array of booleans
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if not is_finite(x):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(f"{name} holds numbers that are not finite")


def _save(workdir: Path, params: Any) -> None:
    """A checkpoint of step 0 that counts: there is no state to go on from."""
    checkpoint.forget(workdir, 0)
    with Checkpoints(workdir, start_step=0, keep_last=1, keep_best=False) as saving:
        saving.save(0, {"params": params})
        saving.confirm(0)
