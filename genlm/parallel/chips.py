"""CHIPS: what makers publish of the accelerators that a plan is made for.

Peak and bandwidths as of docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}; a link's as
of jax-ml.github.io/scaling-book/tpus, which measures slightly less than is published.
"""

from typing import NamedTuple

GIB = 1 << 30


class Chip(NamedTuple):
    """Figures of one chip."""

    flops: float  # a second, bfloat16
    hbm: int  # bytes
    hbm_rate: float  # bytes a second
    link_rate: float  # bytes a second, one way, of one link to a neighbour
    dims: int  # of the torus that its links make
    ring: int  # chips in a dim from which on, in multiples of it, its ends are joined


# A product whose operand is gathered would be computed part by part as the parts come
# round, its float32 sum through HBM each time: 4 times the traffic of pretrain_125m on
# 16 chips of v5e, and its weights gathered three times. Whole weights are gathered.
OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}

CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1.228e12, 4.5e10, 3, 4),
    "v5e": Chip(197e12, 16 * GIB, 8.19e11, 4.5e10, 2, 16),
    "v5p": Chip(459e12, 95 * GIB, 2.765e12, 9e10, 3, 4),
    "v6e": Chip(918e12, 32 * GIB, 1.638e12, 9e10, 2, 16),
}
