"""THE OPTIMIZER: clipping, a treatment for each parameter, a schedule; from Optax."""

import dataclasses
from typing import Any

import jax
import optax
from optax import contrib

from genlm.errors import UserError
from genlm.parallel.specs import ParamSpec, Specs
from genlm.train import schedules, treatments
from genlm.train.treatments import Treatment

# Muon's updates are scaled to the size of AdamW's, so that one learning rate serves
# both (arXiv:2502.16982).
_MUON_RMS = 0.2
_APART = ("layers", "experts")  # dims of matrices beside each other


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """name: 'adamw' (arXiv:1711.05101), 'muon' (arXiv:2502.16982; AdamW for what is no
    matrix), 'adafactor' (arXiv:1804.04235) or 'lion' (arXiv:2302.06675)."""

    learning_rate: float
    name: str = "adamw"
    schedule: str = "cosine"  # see train.schedules
    warmup_steps: int = 100
    final_rate: float = 0.1  # of learning_rate, at the last step
    decay_fraction: float = 0.2  # of all steps, in which 'wsd' falls
    num_cycles: int = 4  # of 'restarts'
    beta1: float = 0.9  # of 'adamw' and 'lion'
    beta2: float = 0.95
    momentum: float = 0.95  # of 'muon'
    epsilon: float = 1e-8
    weight_decay: float = 0.1  # not on norms and biases
    clip_norm: float = 1.0
    rules: tuple[str, ...] = ()  # see train.treatments

    def __post_init__(self) -> None:
        checks = {
            f"name is one of {treatments.OPTIMIZERS}": self.name
            in treatments.OPTIMIZERS,
            f"schedule is one of {schedules.SCHEDULES}": self.schedule
            in schedules.SCHEDULES,
            "learning_rate, epsilon, clip_norm and num_cycles are positive": min(
                self.learning_rate, self.epsilon, self.clip_norm, self.num_cycles
            )
            > 0,
            "warmup_steps, final_rate and weight_decay are 0 or more": min(
                self.warmup_steps, self.final_rate, self.weight_decay
            )
            >= 0,
            "decay_fraction is in (0, 1]": 0 < self.decay_fraction <= 1,
            "beta1, beta2 and momentum are in [0, 1)": 0
            <= min(self.beta1, self.beta2, self.momentum)
            and max(self.beta1, self.beta2, self.momentum) < 1,
        }
        for rule, kept in checks.items():
            if not kept:
                raise UserError(f"not so: optimizer.{rule}")
        for text in self.rules:
            treatments.Rule.parse(text)


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """The learning rate of each step."""
    multiple = schedules.make_schedule(
        config.schedule,
        num_steps,
        warmup_steps=config.warmup_steps,
        final=config.final_rate,
        decay_fraction=config.decay_fraction,
        num_cycles=config.num_cycles,
    )
    return lambda step: config.learning_rate * multiple(step)


def make_optimizer(
    config: OptimizerConfig,
    num_steps: int,
    specs: Specs,
    *,
    width_ratio: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """The gradient transformation of the recipe for parameters of `specs`.

    Its `update` takes the run's `step` by name: the schedule is the run's, whatever
    updates were left out.

    Args:
      width_ratio: see train.treatments.

    Raises:
      UserError: a rule matches no parameter.
    """
    treated = _treated(config, specs, width_ratio)
    transforms = {
        str(t): _transform(t, config, specs)
        for t in dict.fromkeys(jax.tree.leaves(treated))
    }
    return optax.chain(
        optax.masked(
            optax.set_to_zero(),  # so that clipping does not see them
            jax.tree.map(lambda t: t.optimizer == "frozen", treated),
        ),
        optax.clip_by_global_norm(config.clip_norm),
        optax.partition(transforms, jax.tree.map(str, treated)),
        _scale_by_step(make_schedule(config, num_steps)),
    )


def trained(config: OptimizerConfig, specs: Specs) -> Any:
    """A tree of booleans: whether each parameter is; None where all are."""
    is_trained = jax.tree.map(
        lambda t: t.optimizer != "frozen", _treated(config, specs)
    )
    return None if all(jax.tree.leaves(is_trained)) else is_trained


def _treated(config: OptimizerConfig, specs: Specs, width_ratio: float = 1.0) -> Any:
    return treatments.of_specs(
        specs, config.name, config.weight_decay, config.rules, width_ratio
    )


def _scale_by_step(
    schedule: optax.Schedule,
) -> optax.GradientTransformationExtraArgs:
    def update(updates, state, params=None, *, step, **unused):
        rate = schedule(step)
        return jax.tree.map(lambda u: rate * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _transform(
    treatment: Treatment, config: OptimizerConfig, specs: Specs
) -> optax.GradientTransformation:
    """The update of the parameters that get `treatment`, before the schedule; the
    others are masked."""
    if treatment.optimizer == "frozen":
        return optax.set_to_zero()
    if treatment.optimizer == "muon":
        return contrib.muon(
            treatment.rate,
            beta=config.momentum,
            weight_decay=treatment.decay,
            muon_weight_dimension_numbers=lambda params: _matrix_dims(params, specs),
            consistent_rms=_MUON_RMS,
        )
    if treatment.optimizer == "adafactor":
        scale = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    elif treatment.optimizer == "lion":
        scale = optax.scale_by_lion(config.beta1, config.beta2)
    else:
        scale = optax.scale_by_adam(config.beta1, config.beta2, eps=config.epsilon)
    return optax.chain(
        scale,
        optax.add_decayed_weights(treatment.decay),
        optax.scale_by_learning_rate(treatment.rate),
    )


def _matrix_dims(params: Any, specs: Specs) -> Any:
    """Which dims of each unmasked parameter are a matrix's rows, and which its columns:
    the model's width, and all others. Layers and experts are independent matrices."""

    def dims(param: Any, spec: ParamSpec) -> Any:
        if isinstance(param, optax.MaskedNode):
            return param
        width = [i for i, axis in enumerate(spec.axes) if axis == "embed"]
        others = [
            i for i, axis in enumerate(spec.axes) if axis not in ("embed", *_APART)
        ]
        if not others:  # a router's, to the experts
            others = [spec.axes.index("experts")]
        rows, columns = sorted((width, others))
        return contrib.MuonDimensionNumbers(tuple(rows), tuple(columns))

    return jax.tree.map(
        dims, params, specs, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
    )
