"""SHARDING: the one table from logical axes to mesh axes."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genlm.parallel.specs import ParamSpec, Specs

RULES: dict[str, tuple[str, ...]] = {
    # activations
    "batch": ("data", "fsdp"),
    "length": (),
    # parameters
    "vocab": ("tensor",),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head_dim": (),
    "mlp": ("tensor",),
    "layers": (),
    "norm": (),
    "positions": (),
    "experts": (),
}


def partition(
    shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh | Any
) -> PartitionSpec:
    """Where a `shape` of logical `axes` lives; dims that do not divide stay whole."""
    entries = []
    for size, axis in zip(shape, axes):
        names = RULES[axis]
        ways = 1
        for name in names:
            ways *= mesh.shape[name]
        entries.append(names if names and size % ways == 0 else None)
    return PartitionSpec(*entries)


def of_specs(specs: Specs, mesh: Mesh) -> Any:
    """The tree of NamedSharding of a tree of ParamSpec."""

    def sharding(spec: ParamSpec) -> NamedSharding:
        return NamedSharding(mesh, partition(spec.shape, spec.axes, mesh))

    return jax.tree.map(sharding, specs)


def of_batch(mesh: Mesh) -> NamedSharding:
    """Rows split over the data axes; any further dims whole."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def constrain(x: jax.Array, *axes: str) -> jax.Array:
    """`x` held to the layout of its logical `axes`; as it is where no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition(x.shape, axes, mesh))


def global_batch(batch: Any, mesh: Mesh) -> Any:
    """Device arrays [B, ...] of the global batch from this process's part of it."""
    sharding = of_batch(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x), batch
    )
