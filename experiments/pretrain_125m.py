"""125 million parameters on a small TPU slice: the first thing to try on one.

  genlm plan experiments/pretrain_125m.py:v5e --topology v5e:4x4
  genlm run experiments/pretrain_125m.py:v5e --workdir DIR --config.data.paths=GLOB

Planned, not run (docs/plans.md):
  :v5e on 4x4: 7.47 GiB (47%) of HBM, use 74%
  :v5p on 2x2x4: 7.50 GiB (8%) of HBM, use 74%
  :v6e on 4x4: 7.68 GiB (24%) of HBM, use 31%
`:smoke` is two steps of a tiny model on a CPU.
"""

from ml_collections import ConfigDict

from experiments import pods

GRIDS = {
    "v5e": {"rows": 256, "length": 2048, "data": 2, "fsdp": 8},
    "v5p": {"rows": 256, "length": 2048, "data": 2, "fsdp": 8},
    "v6e": {"rows": 256, "length": 2048, "data": 4, "fsdp": 4},
    "h100": {"rows": 256, "length": 2048, "fsdp": 8},
}


def get_config(arg: str = "") -> ConfigDict:
    """For ':v5e' (4x4), ':v5p' (2x2x4), ':v6e' (4x4),
    ':h100' (8 GPUs; not planned), or ':smoke'."""
    return pods.pod("125m", arg, GRIDS)
