"""HEALTH: what goes on inside a model while it learns, layer by layer.

A look costs a step, without dropout, and changes nothing. Its row, for health.jsonl:
  gradient, update     of each parameter: its norm, and that of the update beside its
                       own; a list over layers where it is stacked
  activation           root mean square after each layer
  attention_entropy    of each layer, nats: 0 looks at one token, log t at all t alike
  dead                 of each layer, the share of mlp units that are off (below
                       1e-6 of the largest) on every token of the batch
"""

from typing import Any, Callable, Mapping

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts
from genlm.train.losses import Loss
from genlm.train.state import TrainState
from genlm.train.step import frozen_where_not, summed_gradients

_EPSILON = 1e-12


def make_probe(
    config: TransformerConfig,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    num_microbatches: int = 1,
    trained: Any = None,
    frozen: Any = None,
    model_of: Callable[..., Any] = lambda params, frozen: params,
) -> Callable[[TrainState, Any], dict[str, Any]]:
    """A function of a state and the batch it is about to train on: a row.

    Args:
      loss: of the step; here it gets no key, so that nothing is dropped.
      trained, frozen: as of train.step.
      model_of: of params and frozen, the parameters of the model.
    """

    def still(params, frozen, batch, key):
        return loss(params, frozen, batch, None)

    kept = still if trained is None else frozen_where_not(trained, still)

    @jax.jit
    def look(state: TrainState, frozen: Any, batch: Mapping[str, jax.Array]):
        gradients, sums = summed_gradients(
            kept, state.params, frozen, batch, state.key, num_microbatches
        )
        gradients = jax.tree.map(lambda g: g / sums["weight"], gradients)
        updates, _ = optimizer.update(
            gradients, state.opt_state, state.params, step=state.step
        )
        model = model_of(state.params, frozen)
        _, inside, _ = transformer.apply(model, batch, config, look=True)
        inside.pop("routing", None)  # sums for losses
        beside = jax.tree.map(
            lambda u, p: u / (p + _EPSILON), _norms(updates), _norms(state.params)
        )
        return {"gradient": _norms(gradients), "update": beside, **inside}

    def probe(state: TrainState, batch: Any) -> dict[str, Any]:
        found = hosts.fetch(look(state, frozen, batch))
        flat = traverse_util.flatten_dict(found, sep="/")
        return {name: np.asarray(x, np.float64).tolist() for name, x in flat.items()}

    return probe


def _norms(tree: Any) -> Any:
    """The norm of each array, of each layer's where they are stacked."""

    def norm(path: Any, x: jax.Array) -> jax.Array:
        is_stacked = any(getattr(key, "key", None) == "layers" for key in path)
        dims = tuple(range(1 if is_stacked else 0, x.ndim))
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=dims))

    return jax.tree_util.tree_map_with_path(norm, tree)
