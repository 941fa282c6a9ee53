"""SPECS: every parameter declared once, as shape + logical axes + initialiser.

A model's `*_specs` function returns a nested dict of ParamSpec; shapes, shardings and
initial values are all read off that one tree.
"""

import dataclasses
import math
from typing import Any, Mapping
import zlib

from flax import traverse_util
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    """One array: `axes` names the logical axis of each dim.

    init: 'normal' (standard deviation `scale`), 'zeros' or 'ones'.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: str = "normal"
    scale: float = 0.02

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.axes), (self.shape, self.axes)


Specs = Mapping[str, Any]


def initialize(specs: Specs, key: jax.Array) -> Any:
    """Float32 arrays of `specs`; each key is folded from its path, so that adding a
    parameter leaves the others as they were."""
    flat = traverse_util.flatten_dict(specs, sep="/")
    arrays = {
        path: _array(spec, jax.random.fold_in(key, zlib.crc32(path.encode())))
        for path, spec in flat.items()
    }
    return traverse_util.unflatten_dict(arrays, sep="/")


def _array(spec: ParamSpec, key: jax.Array) -> jax.Array:
    if spec.init == "normal":
        return spec.scale * jax.random.normal(key, spec.shape, jnp.float32)
    return {"zeros": jnp.zeros, "ones": jnp.ones}[spec.init](spec.shape, jnp.float32)


def shapes(specs: Specs) -> Any:
    """The tree of jax.ShapeDtypeStruct (float32) of `specs`."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), specs)


def count(specs: Specs) -> int:
    """The number of parameters."""
    return sum(math.prod(s.shape) for s in jax.tree.leaves(specs))
