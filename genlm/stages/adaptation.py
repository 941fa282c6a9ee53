"""ADAPTATION: which parameters of a run's model a fine-tuning trains, and how.

Before: a run that was trained or imported. After: stages that fine-tune. Either all
parameters are trained, from what the run has, or a low-rank change of some matrices
beside a base that is frozen, in float32 or in 8 or 4 bits.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from genlm import config as configs
from genlm.errors import UserError
from genlm.interop import adapter
from genlm.interop import run as interop
from genlm.interop import trained
from genlm.interop.adapter import Adapter
from genlm.interop.trained import Trained
from genlm.model import lora, quantized, transformer
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig, head_specs
from genlm.model.lora import LoraConfig
from genlm.model.sizes import HOW
from genlm.parallel import hosts, sharding
from genlm.parallel.specs import Specs
from genlm.runs import lineage
from genlm.stages.training import Look
from genlm.tokenizer.base import Tokenizer
from genlm.train import state as states
from genlm.train.losses import Loss
from genlm.train.state import TrainState

# (params, frozen, key) -> the parameters that transformer.apply reads
ModelOf = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class LoraSection:
    """rank: 0 trains all parameters; bits: of the frozen base, 0 for float32."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    rank_stabilised: bool
    dropout: float
    dora: bool
    bits: int

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise UserError("lora.rank is below 0; 0 trains all parameters")
        if self.bits not in (0, *quantized.BITS):
            raise UserError(f"lora.bits {self.bits} is none of 0, {quantized.BITS}")
        if self.bits and not self.rank:
            raise UserError("lora.bits is of a frozen base: give lora.rank too")

    def config(self) -> LoraConfig | None:
        """None where all parameters are trained."""
        if not self.rank:
            return None
        fields = dataclasses.asdict(self)
        return LoraConfig(**{k: v for k, v in fields.items() if k != "bits"})


class Adaptation(NamedTuple):
    """specs: of what is trained; frozen: what is read besides, None for nothing;
    first: of parameters that were drawn, those to begin with."""

    model: TransformerConfig
    trained: Trained
    specs: Specs
    frozen: Any
    first: Callable[[Any], Any]
    model_of: ModelOf

    def with_head(self, head: HeadConfig) -> "Adaptation":
        """The same with a head beside: what is trained, and the parameters of the
        model, are each {"model", "head"}."""

        def first(drawn: Any) -> Any:
            return {**drawn, "model": self.first(drawn["model"])}

        def model_of(params: Any, frozen: Any, key: Any = None) -> Any:
            return {**params, "model": self.model_of(params["model"], frozen, key)}

        return self._replace(
            trained=dataclasses.replace(self.trained, head=head),
            specs={"model": self.specs, "head": head_specs(self.model, head)},
            first=first,
            model_of=model_of,
        )

    def merged(self, params: Any) -> Any:
        """The parameters of the model alone, with the change in them."""
        if self.trained.lora is None:
            return params
        return lora.merge(self.frozen, params, self.trained.lora)

    def adopted(self, state: TrainState) -> TrainState:
        """A drawn state with the parameters to begin with."""
        return states.adopted(state, self.first(state.params))

    def loss(self, of_model: Loss) -> Loss:
        """A loss of a model as one of what is trained."""

        def loss(params, frozen, batch, key):
            return of_model(self.model_of(params, frozen, key), None, batch, key)

        return loss

    def look(self, of_model: Callable[[Any], dict[str, Any]]) -> Look:
        """A look at a model as one at what is trained, at any step."""
        return lambda params, step: of_model(self.model_of(params, self.frozen))

    def save(self, workdir: Path, tokenizer: Tokenizer) -> None:
        """Write what opens the run."""
        interop.save_model(workdir, self.model, tokenizer)
        if self.trained != Trained():
            trained.write(workdir, self.trained)

    def finish(self, workdir: Path) -> None:
        """Write the change that was learnt as the run's adapter."""
        if self.trained.lora is not None:
            params = interop.read_params(workdir)
            change = params["model"] if self.trained.head else params
            base = Path(self.trained.base).name
            adapter.save(workdir, Adapter(self.trained.lora, hosts.fetch(change), base))


def read(config: ConfigDict) -> LoraSection:
    """The section `lora` of a config, checked."""
    section = configs.to_dataclass(LoraSection, config.lora)
    section.config()
    return section


def shape(config: ConfigDict, source: Path, vocab_size: int) -> TransformerConfig:
    """The model of `source`, computed as config.model says, with so many tokens."""
    given = interop.read_config(source)
    how = {name: config.model[name] for name in HOW}
    return dataclasses.replace(given, **how, vocab_size=vocab_size)


def fresh(model: TransformerConfig) -> Adaptation:
    """All parameters of a model that knows nothing yet."""
    return Adaptation(
        model,
        Trained(),
        transformer.param_specs(model),
        None,
        lambda drawn: drawn,
        lambda params, *_: params,
    )


def of(
    section: LoraSection,
    model: TransformerConfig,
    source: Path,
    workdir: Path,
    seed: int,
    mesh: jax.sharding.Mesh,
) -> Adaptation:
    """How the model of the run `source` is fine-tuned in `workdir`.

    Raises:
      UserError: a pattern of lora.targets matches nothing, or a low-rank change is to
        teach tokens that the base does not have.
    """
    lora_config = section.config()
    if lora_config is None:
        return fresh(model)._replace(first=lambda drawn: _grown(source, drawn))
    if model.vocab_size != interop.read_config(source).vocab_size:
        raise UserError(
            f"{source} has no tokens of a chat, which a low-rank change cannot teach:"
            " train all parameters first (lora.rank=0)"
        )
    about = Trained(
        os.path.relpath(source.resolve(), workdir.resolve()),
        lineage.digest(lineage.read(source).get("outputs")),
        lora_config,
        section.bits,
    )
    specs = transformer.param_specs(model)
    base = _base(source, specs, section.bits, mesh)

    def first(drawn: Any) -> Any:
        key = jax.random.PRNGKey(seed)
        return lora.initial(base, specs, lora_config, key)

    def model_of(params: Any, frozen: Any, key: Any = None) -> Any:
        return lora.adapted(frozen, params, lora_config, key)

    change = lora.lora_specs(specs, lora_config)
    return Adaptation(model, about, change, base, first, model_of)


def _base(source: Path, specs: Specs, bits: int, mesh: jax.sharding.Mesh) -> Any:
    """The parameters of a run, frozen, on the mesh."""
    opened = interop.open_run(source)
    print(f"beside step {opened.step} of {source}, which stays as it is", flush=True)
    lives = sharding.of_specs(specs, mesh)
    base = jax.tree.map(jax.device_put, opened.params, lives)
    return quantized.quantize(base, specs, bits, donate=True) if bits else base


def _grown(source: Path, drawn: Any) -> Any:
    """The parameters of a run, in the place of `drawn` ones; a token that the run does
    not know begins near the mean of those that it does."""
    opened = interop.open_run(source)
    print(f"from step {opened.step} of {source}", flush=True)

    def grown(old: jax.Array, new: jax.Array) -> jax.Array:
        if old.shape == new.shape:
            return old
        more = jnp.mean(old, axis=0) + new[len(old) :]
        return jnp.concatenate([old, more])

    return jax.tree.map(grown, opened.params, drawn)
