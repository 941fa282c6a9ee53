"""PLAN: what a step costs on chips that are not here.

Before: a lowered step, for the devices of a `topology`. After: stages.plan. The TPU
compiler itself says how much memory the step takes; what it computes and sends is
counted in the program that it made (see `hlo`), and held beside the chip's figures.
"""

from importlib.util import find_spec
import os
import re
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from genlm.errors import UserError
from genlm.parallel import hlo_counts
from genlm.parallel.chips import CHIPS, OPTIONS, Chip


class Traffic(NamedTuple):
    """Messages of one kind over the same axes of the mesh, of one chip and step."""

    kind: str
    axes: str
    messages: int
    bytes: int  # of the arrays that are gathered, reduced or passed on
    seconds: float


class Plan(NamedTuple):
    """Bytes, operations and seconds are of one chip and one step."""

    chips: int
    hbm: int
    arguments: int
    temporaries: int
    peak: int
    compiled_flops: float
    hbm_bytes: float
    traffic: list[Traffic]
    compute_seconds: float
    hbm_seconds: float
    link_seconds: float
    compile_seconds: float

    @property
    def bound_seconds(self) -> float:
        """Of a step in which all three go on at once, without a pause."""
        return max(self.compute_seconds, self.hbm_seconds, self.link_seconds)


# there is no host of the chips to ask who and what it is
_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several plans at once: none takes a chip
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5p-8",
    "TPU_MIN_LOG_LEVEL": "3",
}


class TooLarge(UserError):
    """The program needs more memory than a chip has; its line says what takes most."""


def topology(name: str) -> tuple[Chip, list[jax.Device]]:
    """The chip and the devices of 'v5e:4x4'.

    Raises:
      UserError: there is no such topology, or no compiler for it.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+)*", shape):
        raise UserError(
            f"--topology {name!r} is not a kind of chip ({', '.join(CHIPS)}) and its"
            " grid, such as v5e:4x4 or v5p:2x2x4"
        )
    if len(shape.split("x")) != CHIPS[kind].dims:
        raise UserError(f"--topology {name}: {kind} has {CHIPS[kind].dims} dims")
    if find_spec("libtpu") is None:
        raise UserError(
            "no compiler for TPUs; pip install 'genlm[tpu]' (libtpu) brings it"
        )
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:  # jax raises several kinds
        why = str(error).split("\n")[0]
        raise UserError(f"--topology {name}: {why}") from error
    return CHIPS[kind], list(found.devices)


def measure(lowered: Any, chip: Chip, mesh: jax.sharding.Mesh) -> Plan:
    """Compile, and count.

    Raises:
      TooLarge: it does not fit.
    """
    start = time.monotonic()
    try:
        compiled = lowered.compile(OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if "memory" not in str(error):
            raise
        raise TooLarge(_largest(str(error))) from error
    seconds = time.monotonic() - start
    memory = compiled.memory_analysis()
    counts = hlo_counts.count(compiled.as_text(), mesh.size)
    traffic = _traffic(counts.collectives, chip, mesh)
    arguments = memory.argument_size_in_bytes
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = arguments + memory.temp_size_in_bytes + max(fresh, 0)
    if peak > chip.hbm:
        raise TooLarge(f"needs {peak / 2**30:.1f} of {chip.hbm / 2**30:.1f} GiB HBM")
    return Plan(
        chips=mesh.size,
        hbm=chip.hbm,
        arguments=arguments,
        temporaries=memory.temp_size_in_bytes,
        peak=peak,
        compiled_flops=counts.flops,
        hbm_bytes=counts.hbm_bytes,
        traffic=traffic,
        compute_seconds=counts.flops / chip.flops,
        hbm_seconds=counts.hbm_bytes / chip.hbm_rate,
        link_seconds=sum(t.seconds for t in traffic),
        compile_seconds=seconds,
    )


def _largest(error: str) -> str:
    """What the compiler says of a program that does not fit, in one line."""
    used = re.search(r"Used ([\d.]+[KMG]) of ([\d.]+[KMG]) hbm", error)
    used = used or re.search(r"\(([\d.]+[KMG])\) exceeds .*\(([\d.]+[KMG])\)", error)
    line = f"needs {used[1]} of {used[2]} HBM" if used else "does not fit into HBM"
    parts = re.findall(
        r"Size: ([\d.]+[KMG]).*?(?:op_name=\"([^\"]*)\".*?)?Shape: (\S+)", error, re.S
    )
    largest = [
        f"{size} {shape.split('{')[0]} ({name.rsplit('/', 1)[-1] or 'unnamed'})"
        for size, name, shape in parts[:3]
    ]
    return f"{line}; its largest: {', '.join(largest)}" if largest else line


def _traffic(
    collectives: list[hlo_counts.Collective], chip: Chip, mesh: jax.sharding.Mesh
) -> list[Traffic]:
    """The collectives, those of a kind and of the same axes together."""
    found: dict[tuple[str, str], list[float]] = {}
    for each in collectives:
        axes = "+".join(_axes(each.groups, mesh))
        if not axes:
            continue
        row = found.setdefault((each.kind, axes), [0, 0, 0, 0])
        row[0] += each.times
        row[1] += each.times * each.bytes
        is_up = each.kind == "collective-permute" and _goes_up(each.groups)
        row[2 + is_up] += each.times * _seconds(each, chip, mesh)
    return [  # what is passed to either side goes at once
        Traffic(kind, axes, round(row[0]), round(row[1]), max(row[2:]))
        for (kind, axes), row in sorted(found.items())
    ]


def _goes_up(pairs: tuple[tuple[int, ...], ...]) -> bool:
    """Whether most devices pass to one with a higher number."""
    return sum(b > a for a, b in pairs) > len(pairs) / 2


def _axes(groups: tuple[tuple[int, ...], ...], mesh: jax.sharding.Mesh) -> list[str]:
    """The mesh axes along which the devices of a group differ."""
    differ: set[str] = set()
    for group in groups:
        places = np.stack(np.unravel_index(group, mesh.devices.shape), axis=1)
        for axis, column in zip(mesh.axis_names, places.T):
            if len(set(column)) > 1:
                differ.add(axis)
    return [axis for axis in mesh.axis_names if axis in differ]


def _seconds(each: hlo_counts.Collective, chip: Chip, mesh: jax.sharding.Mesh) -> float:
    """On a torus, both ways at once, over every dim that a group lies along: as
    jax-ml.github.io/scaling-book/sharding. Ends that are not joined halve a dim."""
    if each.kind == "collective-permute":
        return each.bytes / chip.link_rate
    size = len(each.groups[0])
    devices = mesh.devices.flat
    coords = np.array([devices[i].coords for i in each.groups[0]])
    whole = np.array([d.coords for d in devices]).max(axis=0) + 1
    ways = 0.0
    for dim in range(coords.shape[1]):
        along = len(set(coords[:, dim]))
        is_joined = along == whole[dim] and along % chip.ring == 0
        ways += 0 if along == 1 else 2 if is_joined else 1
    share = (size - 1) / size / (max(ways, 1) * chip.link_rate)
    if each.kind == "all-reduce":  # a reduce-scatter, then an all-gather
        return 2 * each.bytes * share
    if "all-to-all" in each.kind:  # a part goes a quarter of the way round on average
        return each.bytes * size / (4 * max(ways, 1) * chip.link_rate)
    return each.bytes * share
