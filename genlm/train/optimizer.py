"""THE OPTIMIZER: clipping, AdamW, warm-up and cosine, put together from Optax."""

import dataclasses
from typing import Any

from flax import traverse_util
import optax

from genlm.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (arXiv:1711.05101) with a linear warm-up and a cosine to the end."""

    learning_rate: float
    warmup_steps: int = 100
    final_rate: float = 0.1  # of learning_rate, at the last step
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1  # not on norms and biases
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        checks = {
            "learning_rate, epsilon and clip_norm are positive": min(
                self.learning_rate, self.epsilon, self.clip_norm
            )
            > 0,
            "warmup_steps, final_rate and weight_decay are 0 or more": min(
                self.warmup_steps, self.final_rate, self.weight_decay
            )
            >= 0,
            "beta1 and beta2 are in [0, 1)": 0 <= min(self.beta1, self.beta2)
            and max(self.beta1, self.beta2) < 1,
        }
        for rule, kept in checks.items():
            if not kept:
                raise UserError(f"not so: optimizer.{rule}")


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """The learning rate of each step."""
    warmup = min(config.warmup_steps, max(num_steps - 1, 1))
    return optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / (warmup + 1),
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(num_steps, warmup + 1),
        end_value=config.learning_rate * config.final_rate,
    )


def make_optimizer(
    config: OptimizerConfig, num_steps: int
) -> optax.GradientTransformation:
    """The gradient transformation of the recipe."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            make_schedule(config, num_steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=_decayed,
        ),
    )


def _decayed(params: Any) -> Any:
    """True at the weights that decay: all but norms and biases."""
    flat = traverse_util.flatten_dict(params)
    decayed = {p: not p[-1].endswith(("norm", "bias")) for p in flat}
    return traverse_util.unflatten_dict(decayed)
