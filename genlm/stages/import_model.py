"""IMPORT: a public model -> a run directory with a checkpoint of step 0.

Before: a Hugging Face folder or a GGUF file. After: generate, chat, evaluate,
training that goes on from it (pretrain's `source`), export. The model's own numbers
are kept as they are, in float32.
"""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from genlm.errors import UserError
from genlm.interop import bring, hf_config
from genlm.interop import run as interop
from genlm.interop import weights
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts, specs
from genlm.runs import checkpoint, directory, lineage
from genlm.runs.saving import Checkpoints
from genlm.stages import rerun

READS = ("seed", "path")


def read(config: ConfigDict) -> None:
    """There is nothing to check before the files are opened."""


def run(config: ConfigDict, workdir: Path) -> None:
    """Write the model at `config.path` into `workdir`."""
    path = bring.locate(config.path)
    inputs = lineage.of_inputs(
        bring.files(path), lineage.read(workdir).get("inputs", {})
    )
    if rerun.is_finished(config, workdir, inputs):
        print(f"{workdir}: holds {config.path} already", flush=True)
        return
    source = bring.open_source(path)
    model = TransformerConfig(**hf_config.to_config(source.config))
    tokenizer = bring.open_tokenizer(path, source, model.vocab_size)
    hosts.setup()
    tree = transformer.param_specs(model)
    size = f"{specs.count(tree):,} parameters"
    hosts.require_memory(specs.shapes(tree), size, "take a machine with more")
    print(f"{config.path}: {source.config['model_type']}, {size}", flush=True)
    params = jax.device_put(weights.load(source, model))  # on a CPU without a copy
    _check_finite(params)
    directory.create(workdir)
    rerun.save_config(config, workdir)  # first: a kill leaves a run that goes on
    _save(workdir, params)
    interop.save_model(workdir, model, tokenizer)
    names = ["model.json", "tokenizer", "checkpoints/0.0.json"]
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, names))


def _check_finite(params: Any) -> None:
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if not jax.numpy.isfinite(x).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(f"{name} holds numbers that are not finite")


def _save(workdir: Path, params: Any) -> None:
    """A checkpoint of step 0 that counts: there is no state to go on from."""
    checkpoint.forget(workdir, 0)
    with Checkpoints(workdir, start_step=0, keep_last=1, keep_best=False) as saving:
        saving.save(0, {"params": params})
        saving.confirm(0)
