"""THE BEGINNING of a training: random weights, or those of another run (`source`).

Before: prepared data, and a run that was trained or imported. After: pretrain.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.interop.run import find, open_run, read_config
from genlm.model.config import TransformerConfig
from genlm.model.sizes import HOW
from genlm.runs import lineage
from genlm.stages.prepare import Prepared
from genlm.tokenizer.controls import BASE
from genlm.train import state as states
from genlm.train.state import TrainState


class Beginning(NamedTuple):
    """The model that is trained, and the run that it goes on from, if any."""

    model: TransformerConfig
    source: Path | None
    inputs: dict[str, Any]  # that run's hash, for the lineage

    def adopted(self, state: TrainState) -> TrainState:
        """`state` with the parameters of the source, where there is one."""
        if self.source is None:
            return state
        opened = open_run(self.source)
        print(f"from step {opened.step} of {self.source}", flush=True)
        return states.adopted(state, opened.params)


def of(config: ConfigDict, prepared: Prepared) -> Beginning:
    """How a pretrain config begins.

    Raises:
      UserError: the source reads other tokens than the data holds, or shorter rows.
    """
    length = prepared.summary["row_length"]
    if not config.source:
        model = configs.to_dataclass(
            TransformerConfig,
            config.model,
            vocab_size=prepared.tokenizer.vocab_size,
            max_length=length,
        )
        return Beginning(model, None, {})
    source = find(Path(config.source))
    check_tokenizers(source / "tokenizer", prepared.folder / "tokenizer")
    given = read_config(source)
    if length > given.max_length:
        raise UserError(
            f"data.row_length is {length}, and {source} looks back {given.max_length}"
            " tokens; take shorter rows"
        )
    model = dataclasses.replace(given, **{name: config.model[name] for name in HOW})
    outputs = lineage.read(source).get("outputs")
    return Beginning(model, source, {str(source): {"sha256": lineage.digest(outputs)}})


def tokenizer_of_text(run: Path, prepared: Prepared) -> Path:
    """The folder of the tokenizer that a run's model reads such data with: where the
    data has no tokens of a chat, which come after all others, those of the text."""
    folder = run / "tokenizer"
    whole, of_data = folder / BASE, prepared.folder / "tokenizer" / BASE
    return whole if whole.is_dir() and not of_data.is_dir() else folder


def check_tokenizers(own: Path, of_data: Path) -> None:
    """Make sure that a model was trained on the tokens of this data.

    Raises:
      UserError: it reads others.
    """
    hashes = [
        {p.relative_to(each): lineage.sha256(p) for p in each.rglob("*") if p.is_file()}
        for each in (own, of_data)
    ]
    if hashes[0] != hashes[1]:
        raise UserError(
            f"{own} and {of_data} differ: the model reads other tokens than"
            " data.prepared holds; name the data that it was trained on, or prepare"
            " with tokenizer.kind=run"
        )
