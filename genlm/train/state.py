"""THE TRAIN STATE: everything that a step changes, in one pytree."""

import dataclasses
from types import MappingProxyType
from typing import Any, Mapping

from flax import struct, traverse_util
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from genlm.parallel import sharding
from genlm.parallel import specs as parameters
from genlm.train import spikes

Kept = Mapping[str, float]  # numbers that an algorithm begins with, by their names
NOTHING: Kept = MappingProxyType({})


@struct.dataclass
class TrainState:
    """`step` updates have been made to `params`."""

    step: Any  # scalar int32
    params: Any
    opt_state: Any
    key: Any  # the run's key; a step's own is fold_in(key, step)
    ema: Any = None  # a running average of params
    extra: Any = None  # what an algorithm keeps: {"losses_W": the last ones, **kept}


def make(
    specs: parameters.Specs,
    optimizer: optax.GradientTransformation,
    seed: jax.Array,
    ema: bool = False,
    kept: Kept = NOTHING,
) -> TrainState:
    """A fresh state; every array depends on `seed` and its own path only.

    Args:
      ema: keep an average of the parameters too.
      kept: what `extra` holds besides.
    """
    init_key, key = jax.random.split(jax.random.PRNGKey(seed))
    params = parameters.initialize(specs, init_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=key,
        ema=params if ema else None,
        extra={
            "losses_W": spikes.empty(),
            **{name: jnp.float32(value) for name, value in kept.items()},
        },
    )


def adopted(state: TrainState, params: Any) -> TrainState:
    """A fresh state with other parameters, which live where its own did, and with their
    average where it keeps one."""
    params = jax.tree.map(
        lambda x, y: jax.device_put(x, y.sharding), params, state.params
    )
    ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return dataclasses.replace(state, params=params, ema=ema)


def shardings(
    specs: parameters.Specs,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    ema: bool = False,
    kept: Kept = NOTHING,
) -> TrainState:
    """The tree of NamedSharding of a state: what an optimizer keeps for a parameter, in
    its shape, lives as the parameter does; anything else is whole everywhere."""
    of_params = sharding.of_specs(specs, mesh)
    whole = sharding.replicated(mesh)
    lives = traverse_util.flatten_dict(of_params)
    shapes = {p: s.shape for p, s in traverse_util.flatten_dict(specs).items()}

    def of_kept(path: Any, x: jax.ShapeDtypeStruct) -> Any:
        names = tuple(k.key for k in path if isinstance(k, jax.tree_util.DictKey))
        ends = (names[start:] for start in range(len(names)))
        owner = next((end for end in ends if shapes.get(end) == x.shape), None)
        return whole if owner is None else lives[owner]

    of_optimizer = jax.tree_util.tree_map_with_path(
        of_kept, jax.eval_shape(optimizer.init, parameters.shapes(specs))
    )
    return TrainState(
        step=whole,
        params=of_params,
        opt_state=of_optimizer,
        key=whole,
        ema=of_params if ema else None,
        extra={"losses_W": whole, **{name: whole for name in kept}},
    )


def abstract(
    specs: parameters.Specs,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    ema: bool = False,
    kept: Kept = NOTHING,
) -> TrainState:
    """Shapes, types and shardings of a state, to restore into."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(
            lambda: make(specs, optimizer, jnp.zeros((), jnp.int32), ema, kept)
        ),
        shardings(specs, optimizer, mesh, ema, kept),
    )


def born_sharded(
    specs: parameters.Specs,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    seed: int,
    ema: bool = False,
    kept: Kept = NOTHING,
) -> TrainState:
    """A fresh state of which no device ever held more than its share."""
    with jax.set_mesh(mesh):
        init = jax.jit(
            lambda s: make(specs, optimizer, s, ema, kept),
            out_shardings=shardings(specs, optimizer, mesh, ema, kept),
        )
        return init(jnp.asarray(seed, jnp.int32))
