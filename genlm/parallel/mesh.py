"""THE MESH: devices in a grid with named axes.

'data' repeats the model and splits the batch; 'fsdp' splits the batch and the
parameters; 'expert' splits the batch and the experts; 'context' splits each row;
'tensor' splits heads, mlp and vocabulary. Neighbours on the last axes are nearest.
-1 takes what is left.
"""

import dataclasses
import math
from typing import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType

from genlm.errors import UserError

AXES = ("data", "fsdp", "expert", "context", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes, of which one may be -1, and changes to the table of
    `sharding`: 'embed=fsdp,context' splits that logical axis over those of the mesh."""

    data: int = -1
    fsdp: int = 1
    expert: int = 1
    context: int = 1
    tensor: int = 1
    rules: tuple[str, ...] = ()


def make(
    config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
    """The mesh over `devices` (all of them by default).

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(config, axis) for axis in AXES]
    if sizes.count(-1) == 1:
        rest = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = len(devices) // max(rest, 1)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        named = ", ".join(f"{a}={s}" for a, s in zip(AXES, sizes))
        raise UserError(
            f"parallel: {named} do not multiply to {len(devices)} devices; one of them"
            " may be -1, which takes what is left"
        )
    grid = mesh_utils.create_device_mesh(
        sizes, devices, allow_split_physical_axes=True  # where no whole side fits
    )
    return jax.sharding.Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))
