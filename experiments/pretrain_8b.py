"""8 billion parameters (the shape of Llama 3.1 8B) on a TPU pod slice.

  genlm plan experiments/pretrain_8b.py:v5p --topology v5p:4x8x8
  genlm run experiments/pretrain_8b.py:v5p --workdir DIR --config.data.paths=GLOB

Planned, not run (docs/plans.md):
  :v5e on 16x16: 5.29 GiB (33%) of HBM, use 77%
  :v5p on 4x8x8: 8.89 GiB (9%) of HBM, use 77%
  :v6e on 16x16: 19.98 GiB (62%) of HBM, use 77%
`:smoke` is two steps of a tiny model on a CPU.
"""

from ml_collections import ConfigDict

from experiments import pods

GRIDS = {
    "v5e": {"rows": 256, "length": 4096, "data": 2, "fsdp": 128},
    "v5p": {"rows": 512, "length": 4096, "data": 4, "fsdp": 64},
    "v6e": {"rows": 1024, "length": 4096, "data": 16, "fsdp": 16},
    "h100": {"rows": 256, "length": 4096, "fsdp": 128},
}


def get_config(arg: str = "") -> ConfigDict:
    """For ':v5e' (16x16), ':v5p' (4x8x8), ':v6e' (16x16),
    ':h100' (128 GPUs; not planned), or ':smoke'."""
    return pods.pod("8b", arg, GRIDS)
