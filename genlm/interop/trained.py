"""TRAINED: what the checkpoints of a fine-tuned run hold, where it is no whole model.

  trained.json   the run that was changed and how (a low-rank change, over a base of so
                 many bits), and what the model's head is
Before: a stage that fine-tunes. After: `interop.run`, which opens such a run as a model
like any other, with the run that it changes.
"""

import dataclasses
from pathlib import Path
from typing import Any

from genlm.errors import UserError
from genlm.model import lora, quantized, transformer
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig, head_specs
from genlm.model.lora import LoraConfig
from genlm.parallel.specs import Specs
from genlm.runs import directory, lineage

NAME = "trained.json"


@dataclasses.dataclass(frozen=True)
class Trained:
    """base: the folder of the run that is changed, from the run's own; '' where all of
    its parameters were trained. sha256: of what that run had made."""

    base: str = ""
    sha256: str = ""
    lora: LoraConfig | None = None
    bits: int = 0  # of the base's matrices while it was trained; 0: float32
    head: HeadConfig | None = None

    def specs(self, model: TransformerConfig) -> Specs:
        """Of what a checkpoint holds as params: a model or its change, and beside it a
        head where there is one."""
        specs = transformer.param_specs(model)
        if self.lora is not None:
            specs = lora.lora_specs(specs, self.lora)
        if self.head is None:
            return specs
        return {"model": specs, "head": head_specs(model, self.head)}

    def merged(self, base: Any, change: Any, model: TransformerConfig) -> Any:
        """The parameters of the base with the change in them, as it was trained."""
        assert self.lora is not None
        if self.bits:
            specs = transformer.param_specs(model)
            base = quantized.quantize(base, specs, self.bits, donate=True)
        return lora.merge(base, change, self.lora)


def write(workdir: Path, trained: Trained) -> None:
    """Write workdir/trained.json."""
    directory.write_json(workdir / NAME, dataclasses.asdict(trained))


def read(workdir: Path) -> Trained:
    """What `write` wrote; that of a whole model where it wrote nothing.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / NAME
    if not path.exists():
        return Trained()
    fields = directory.read_json(path)
    try:
        if fields["lora"]:
            targets = tuple(fields["lora"]["targets"])
            fields["lora"] = LoraConfig(**{**fields["lora"], "targets": targets})
        if fields["head"]:
            labels = tuple(fields["head"]["labels"])
            fields["head"] = HeadConfig(**{**fields["head"], "labels": labels})
        return Trained(**fields)
    except (KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{path} is damaged, or of another version of genlm: {error}"
        ) from error


def base_of(workdir: Path, trained: Trained) -> Path:
    """The folder of the run that `workdir` changes.

    Raises:
      UserError: it is not there, or has changed since.
    """
    base = (workdir / trained.base).resolve()
    if not base.is_dir():
        raise UserError(
            f"{workdir} changes the model of {base}, which is not there; put it back"
        )
    if lineage.digest(lineage.read(base).get("outputs")) != trained.sha256:
        raise UserError(
            f"{base} is not as it was when {workdir} was trained from it: the change is"
            " of another base"
        )
    return base
