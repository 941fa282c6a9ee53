"""EXPORT: an opened run -> a Hugging Face folder; the adapter of a run -> PEFT's.

Before: `run.open_run`. After: `from_pretrained` of transformers or PEFT. What is there
afterwards is a whole folder or what was there before.
"""

from pathlib import Path

from genlm.errors import UserError
from genlm.interop import adapter, folder, hf_config, peft, trained, weights
from genlm.interop.hf_tokenizer import control_ids, write_tokenizer
from genlm.interop.run import Opened, find, read_config
from genlm.model.config import TransformerConfig


def check(config: TransformerConfig) -> None:
    """Make sure that such a model can be exported.

    Raises:
      UserError: it cannot (names what no family has).
    """
    hf_config.family_of(config)


def check_whole(source: Path) -> None:
    """Make sure that a Hugging Face folder holds all of a run.

    Raises:
      UserError: it has a head, which no causal model there has a place for.
    """
    workdir = find(source)
    if trained.read(workdir).head is not None:
        raise UserError(
            f"{workdir} is a classifier, and its head has no place in such a folder;"
            " genlm classify uses it"
        )


def write(opened: Opened, out: Path, dtype: str = "float32") -> None:
    """Write config.json, safetensors, the tokenizer and what ends an answer.

    Args:
      dtype: of the weights in the files.

    Raises:
      UserError: no family of transformers has such a model (names what it lacks), or
        `out` holds something else.
    """
    family = hf_config.family_of(opened.config)
    config = hf_config.from_config(opened.config, family)
    config |= control_ids(opened.tokenizer)
    with folder.exporting(out) as partial:
        folder.write_folder(
            partial,
            config,
            weights.tensors(opened.params, opened.config, family),
            shapes=weights.shapes(opened.config, family),
            dtype=dtype,
        )
        write_tokenizer(opened.tokenizer, partial)


def write_adapter(source: Path, out: Path, dtype: str = "float32") -> Path:
    """Write the adapter of a run as PEFT has it; the run's folder.

    Args:
      source: a run, or a life whose last model it is.

    Raises:
      UserError: the run has no adapter, or `out` holds something else.
    """
    workdir = find(source)
    model = read_config(workdir)
    held = adapter.load(workdir, model)
    family = hf_config.family_of(model)
    peft.write_adapter(out, held.config, held.tree, model, family, held.base, dtype)
    return workdir
