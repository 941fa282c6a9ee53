"""HOSTS: what a process sets up once, before its first array.

Several processes join when the environment says so (JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES, JAX_PROCESS_ID, or what a TPU pod sets). Compiled programs are kept
under the user's cache folder, so that a second start does not compile again.
"""

import os
from pathlib import Path

import jax


def setup() -> None:
    """Join other processes if there are any; keep compiled programs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    jax.config.update("jax_compilation_cache_dir", str(cache / "genlm" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            coordinator_address=address,
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
        )


def is_first() -> bool:
    """Whether this process is the one that prints and writes shared files."""
    return jax.process_index() == 0
