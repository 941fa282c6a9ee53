"""What tests share: eight simulated devices, quick compilation, and no race of
hypothesis against the clock."""

import os

from hypothesis import settings

FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PJRT_NPROC", "32")  # see genlm.parallel.hosts.spare_threads
settings.register_profile("genlm", deadline=None, derandomize=True)
settings.load_profile("genlm")
