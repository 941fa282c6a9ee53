"""A mixture of eight experts, two a token, each an mlp of the 1b size, on a TPU slice.

  genlm plan experiments/pretrain_moe_8x.py:v5p --topology v5p:4x4x4
  genlm run experiments/pretrain_moe_8x.py:v5p --workdir DIR --config.data.paths=GLOB

Planned, not run (docs/plans.md):
  :v5e on 8x8: 8.01 GiB (50%) of HBM, use 55%
  :v5p on 4x4x4: 16.05 GiB (17%) of HBM, use 55%
  :v6e on 8x8: 9.30 GiB (29%) of HBM, use 46%
`:smoke` is two steps of a tiny model on a CPU.
"""

from ml_collections import ConfigDict

from experiments import pods

GRIDS = {
    "v5e": {"rows": 256, "length": 2048, "data": 2, "fsdp": 4, "expert": 8},
    "v5p": {"rows": 512, "length": 2048, "data": 4, "fsdp": 4, "expert": 4},
    "v6e": {"rows": 512, "length": 2048, "fsdp": 8, "expert": 8},
    "h100": {"rows": 256, "length": 2048, "fsdp": 8, "expert": 8},
}


def get_config(arg: str = "") -> ConfigDict:
    """For ':v5e' (8x8), ':v5p' (4x4x4), ':v6e' (8x8),
    ':h100' (64 GPUs; not planned), or ':smoke'."""
    config = pods.pod("1b", arg, GRIDS)
    config.model.update(
        {"num_experts": 8, "experts_per_token": 2, "expert_dispatch": "capacity"}
    )
    config.train.update({"balance_loss": 0.01, "router_z_loss": 0.001})
    return config
