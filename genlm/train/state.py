"""THE TRAIN STATE: everything that a step changes, in one pytree."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from genlm.parallel import sharding
from genlm.parallel import specs as parameters


@struct.dataclass
class TrainState:
    """`step` updates have been made to `params`."""

    step: Any  # scalar int32
    params: Any
    opt_state: Any
    key: Any  # the run's key; a step's own is fold_in(key, step)
    ema: Any = None  # a running average of params
    extra: Any = None  # what an algorithm keeps, such as an adaptive coefficient


def make(
    specs: parameters.Specs, optimizer: optax.GradientTransformation, seed: jax.Array
) -> TrainState:
    """A fresh state; every array depends on `seed` and its own path only."""
    init_key, key = jax.random.split(jax.random.PRNGKey(seed))
    params = parameters.initialize(specs, init_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=key,
    )


def shardings(
    specs: parameters.Specs, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The tree of NamedSharding of a state: optimizer moments live as their weights."""
    of_params = sharding.of_specs(specs, mesh)
    whole = sharding.replicated(mesh)
    of_optimizer = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, s: s,
        jax.eval_shape(optimizer.init, parameters.shapes(specs)),
        of_params,
        transform_non_params=lambda _: whole,
    )
    return TrainState(step=whole, params=of_params, opt_state=of_optimizer, key=whole)


def abstract(
    specs: parameters.Specs, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Shapes, types and shardings of a state, to restore into."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(lambda: make(specs, optimizer, jnp.zeros((), jnp.int32))),
        shardings(specs, optimizer, mesh),
    )


def born_sharded(
    specs: parameters.Specs,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    seed: int,
) -> TrainState:
    """A fresh state of which no device ever held more than its share."""
    with jax.set_mesh(mesh):
        init = jax.jit(
            lambda s: make(specs, optimizer, s),
            out_shardings=shardings(specs, optimizer, mesh),
        )
        return init(jnp.asarray(seed, jnp.int32))
