"""SHARDING: the one table from logical axes to mesh axes.

A recipe may change the table (`parallel.rules`); `laid_out` is where a mesh and its
table hold.
"""

import contextlib
import contextvars
import functools
from typing import Any, Iterator, Mapping

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genlm.errors import UserError
from genlm.parallel.mesh import AXES
from genlm.parallel.specs import ParamSpec, Specs

Rules = Mapping[str, tuple[str, ...]]
RULES: Rules = {
    # activations
    "batch": ("data", "fsdp", "expert"),
    "length": ("context",),
    # parameters
    "vocab": ("tensor",),
    "embed": ("fsdp", "expert", "context"),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head_dim": (),
    "mlp": ("tensor",),
    "layers": (),
    "norm": (),
    "positions": (),
    "experts": ("expert",),
}
# rows that a recipe may give other axes; the others are split by hand in kernels, rings
# and the dispatch to experts, which know their own axes and none
FREE = {"vocab", "embed", "layers", "norm", "positions"}
_rules: contextvars.ContextVar[Rules] = contextvars.ContextVar("rules", default=RULES)
_platform: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")


def changed(rules: tuple[str, ...]) -> Rules:
    """The table with some rows as `rules` say: 'embed=fsdp,context'; 'vocab=' is whole.

    Raises:
      UserError: an axis is not known, or not possible there.
    """
    table = dict(RULES)
    for rule in rules:
        axis, equals, names = rule.partition("=")
        onto = tuple(filter(None, names.split(",")))
        if not equals or axis not in RULES or not set(onto) <= set(AXES):
            raise UserError(
                f"parallel.rules: {rule!r} is not one of {', '.join(RULES)}, '=', and"
                f" some of {', '.join(AXES)}"
            )
        if axis not in FREE and not set(onto) <= set(RULES[axis]):
            may = ", ".join(RULES[axis]) or "nothing"
            raise UserError(f"parallel.rules: {axis} may be split over {may} only")
        table[axis] = onto
    return table


@contextlib.contextmanager
def laid_out(mesh: Mesh, rules: tuple[str, ...] = ()) -> Iterator[None]:
    """Arrays live on `mesh` as the table says, changed by `rules`."""
    before = _rules.set(changed(rules))
    elsewhere = _platform.set(mesh.devices.flat[0].platform)
    try:
        with jax.set_mesh(mesh):
            yield
    finally:
        _rules.reset(before)
        _platform.reset(elsewhere)


def platform() -> str:
    """'cpu', 'gpu' or 'tpu': what is compiled for, which need not be here."""
    return _platform.get() or jax.default_backend()


def partition(
    shape: tuple[int, ...], axes: tuple[str, ...], mesh: Mesh | Any
) -> PartitionSpec:
    """Where a `shape` of logical `axes` lives. A mesh axis splits one dim only, the
    first that names it; a dim that it does not divide is not split by it."""
    entries: list[Any] = []
    taken: set[str] = set()
    for size, axis in zip(shape, axes):
        names: list[str] = []
        for name in _rules.get()[axis]:
            ways = mesh.shape[name]
            if ways > 1 and name not in taken and size % ways == 0:
                names.append(name)
                size //= ways
        taken |= set(names)
        entries.append(tuple(names) or None)
    return PartitionSpec(*entries)


def names(entry: Any) -> tuple[str, ...]:
    """The mesh axes of one entry of a PartitionSpec."""
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def of_specs(specs: Specs, mesh: Mesh) -> Any:
    """The tree of NamedSharding of a tree of ParamSpec."""

    def sharding(spec: ParamSpec) -> NamedSharding:
        return NamedSharding(mesh, partition(spec.shape, spec.axes, mesh))

    return jax.tree.map(sharding, specs)


def ways(mesh: Mesh | Any, axis: str) -> int:
    """Into how many parts a logical axis is split."""
    parts = 1
    for name in _rules.get()[axis]:
        parts *= mesh.shape[name]
    return parts


def of_batch(mesh: Mesh) -> NamedSharding:
    """Rows and their length split; any further dims whole."""
    rules = _rules.get()
    return NamedSharding(mesh, PartitionSpec(rules["batch"], rules["length"]))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def constrain(x: jax.Array, *axes: str) -> jax.Array:
    """`x` held to the layout of its logical `axes`; as it is where no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition(x.shape, axes, mesh))


def rows_of_process(mesh: Mesh) -> tuple[int, int]:
    """(i, n): of each batch this process reads the i-th n-th of the rows. Processes
    whose devices hold the same rows read the same ones."""
    return _parts(of_batch(mesh), ways(mesh, "batch"), ways(mesh, "length"))


@functools.lru_cache
def _parts(at: NamedSharding, rows: int, stretches: int) -> tuple[int, int]:
    held: dict[int, set[int]] = {}
    device: Any
    for device, (row, _) in at.devices_indices_map((rows, stretches)).items():
        held.setdefault(device.process_index, set()).add(row.start or 0)
    parts = sorted({tuple(sorted(part)) for part in held.values()})
    if sum(map(len, parts)) != rows:
        raise UserError(
            "parallel: the mesh gives processes rows that overlap in part; its batch"
            " axes (data, fsdp, expert) should be split over processes first"
        )
    return parts.index(tuple(sorted(held[jax.process_index()]))), len(parts)


def global_batch(batch: Any, mesh: Mesh) -> Any:
    """Device arrays [B, T] of the global batch from this process's rows of it."""
    at, (_, parts) = of_batch(mesh), rows_of_process(mesh)

    def place(x: Any) -> jax.Array:
        shape = (parts * x.shape[0], *x.shape[1:])
        return jax.make_array_from_process_local_data(at, x, shape)

    return jax.tree.map(place, batch)
