"""70 billion parameters (the shape of Llama 3.1 70B) on a TPU pod.

  genlm plan experiments/pretrain_70b.py:v5p --topology v5p:8x8x8
  genlm run experiments/pretrain_70b.py:v5p --workdir DIR --config.data.paths=GLOB

Planned, not run (docs/plans.md):
  :v5e on 16x16: 13.62 GiB (85%) of HBM, use 79%
  :v5p on 8x8x8: 43.65 GiB (46%) of HBM, use 79%
  :v6e on 16x16: 26.57 GiB (83%) of HBM, use 79%
`:smoke` is two steps of a tiny model on a CPU.
"""

from ml_collections import ConfigDict

from experiments import pods

GRIDS = {
    "v5e": {"rows": 128, "length": 2048, "fsdp": 64, "tensor": 4},
    "v5p": {"rows": 1024, "length": 4096, "data": 8, "fsdp": 64},
    "v6e": {"rows": 512, "length": 4096, "fsdp": 256},
    "h100": {"rows": 512, "length": 4096, "fsdp": 64, "tensor": 8},
}


def get_config(arg: str = "") -> ConfigDict:
    """For ':v5e' (16x16), ':v5p' (8x8x8), ':v6e' (16x16),
    ':h100' (512 GPUs; not planned), or ':smoke'."""
    return pods.pod("70b", arg, GRIDS)
