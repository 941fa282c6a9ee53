"""1.1 billion parameters (the shape of Llama 3.2 1B) on a TPU slice.

  genlm plan experiments/pretrain_1b.py:v5p --topology v5p:4x4x4
  genlm run experiments/pretrain_1b.py:v5p --workdir DIR --config.data.paths=GLOB

Planned, not run (docs/plans.md):
  :v5e on 8x8: 5.72 GiB (36%) of HBM, use 77%
  :v5p on 4x4x4: 6.24 GiB (7%) of HBM, use 77%
  :v6e on 8x8: 7.02 GiB (22%) of HBM, use 77%
`:smoke` is two steps of a tiny model on a CPU.
"""

from ml_collections import ConfigDict

from experiments import pods

GRIDS = {
    "v5e": {"rows": 512, "length": 2048, "data": 2, "fsdp": 32},
    "v5p": {"rows": 512, "length": 2048, "data": 4, "fsdp": 16},
    "v6e": {"rows": 512, "length": 2048, "data": 8, "fsdp": 8},
    "h100": {"rows": 512, "length": 2048, "fsdp": 64},
}


def get_config(arg: str = "") -> ConfigDict:
    """For ':v5e' (8x8), ':v5p' (4x4x4), ':v6e' (8x8),
    ':h100' (64 GPUs; not planned), or ':smoke'."""
    return pods.pod("1b", arg, GRIDS)
