"""HOSTS: what a process sets up once, before its first array.

Several processes join when the environment says so (JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES and JAX_PROCESS_ID; an address of 'auto' asks the cluster). Compiled
programs are kept under the user's cache folder, so that a second start does not compile
again.
"""

import contextlib
import math
import os
from pathlib import Path
import re
import sys
import time
from typing import Any, Callable, Iterator
import warnings

import jax
import numpy as np

from genlm.errors import UserError

LOST_AFTER = 30  # seconds of silence, after which a process counts as gone
GRACE = 3  # seconds between two processes that find the same mistake


def setup() -> None:
    """Join other processes if there are any; keep compiled programs.

    Raises:
      UserError: the environment asks for devices or processes that are not there.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    compiled = Path(cache) / "genlm" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not isinstance(warnings.showwarning, _DropsDamaged):  # each stage sets up
        warnings.showwarning = _DropsDamaged(compiled, warnings.showwarning)
    spare_threads()
    if are_several() and not jax.distributed.is_initialized():
        _join(os.environ["JAX_COORDINATOR_ADDRESS"])
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax asserts that one was found
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = str(error).split("\n")[0] or f"JAX_PLATFORMS={asked} finds none here"
        raise UserError(f"no devices: {why}") from error


def _join(address: str) -> None:
    """Meet the other processes.

    Raises:
      UserError: they cannot be found.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where: dict[str, Any] = {}
    if address != "auto":
        where = {
            "coordinator_address": address,
            "num_processes": _number("JAX_NUM_PROCESSES"),
            "process_id": _number("JAX_PROCESS_ID"),
        }
    else:  # JAX asks the cluster where the variable is not there
        del os.environ["JAX_COORDINATOR_ADDRESS"]
    try:
        jax.distributed.initialize(
            **where,
            heartbeat_timeout_seconds=LOST_AFTER,
            shutdown_timeout_seconds=LOST_AFTER,
        )
    except (ValueError, RuntimeError) as error:
        why = str(error).split("\n")[0]
        raise UserError(f"cannot join the other processes: {why}") from error
    finally:
        os.environ["JAX_COORDINATOR_ADDRESS"] = address


def are_several() -> bool:
    """Whether this process is one of several that train together."""
    return bool(os.environ.get("JAX_COORDINATOR_ADDRESS"))


def meet(name: str) -> None:
    """Wait until every process has come to `name`."""
    if are_several():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def quiet_but_first() -> Iterator[None]:
    """Only the first process prints to standard output; all say their errors."""
    if is_first():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def fetch(tree: Any) -> Any:
    """The arrays of a tree on this host, whole, wherever their parts are."""
    if all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def should_stop(step: int) -> bool:
    """Whether a process of several was told to end (SIGTERM), and all have come to the
    step after which they do. Every process asks at every step."""
    if not are_several():
        return False
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)


def lost_line(error: Exception) -> str:
    """What to say of an error that another process's end has caused; '' of others."""
    said = str(error)
    signs = ("Gloo", "coordination service", "heartbeat", "Connection reset", "barrier")
    if are_several() and any(sign in said for sign in signs):
        why = " ".join(said.split())[:160]
        return f"another process is gone, so this one ends too ({why}); start all again"
    return ""


def leave(code: int) -> None:
    """End now, where this process has joined others: as Python exits, JAX would wait
    for them, in vain, and abort. The first one keeps what joins them for a while, for
    those that are about to say the same mistake."""
    if not jax.distributed.is_initialized():
        return
    sys.stderr.flush()
    if is_first():
        time.sleep(GRACE)
    os._exit(code)


def spare_threads() -> None:
    """Give simulated devices of a CPU threads to spare.

    Each of them holds a thread while it waits for the others in a collective. XLA keeps
    no more threads than devices, so the parts of the last one's product may find none
    to run on: all wait, and after a minute XLA aborts.
    """
    if "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("PJRT_NPROC", "32")


class _DropsDamaged:
    """In the place of warnings.showwarning: deletes a compiled program that proves
    damaged, so that it is kept anew, and hands all other warnings on to `show`.

    A full disk or a kill cuts one off in the writing. JAX would go on without it, but
    warn of it in every run from then on.
    """

    def __init__(self, compiled: Path, show: Callable[..., None]):
        self._compiled, self._show = compiled, show

    def __call__(self, message: Any, *rest: Any, **named: Any) -> None:
        complaint = r"Error \w+ persistent compilation cache entry for '(\w+)'"
        if found := re.match(complaint, str(message)):
            for path in self._compiled.glob(f"{found[1]}-*"):
                path.unlink(missing_ok=True)
        else:
            self._show(message, *rest, **named)


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    if not text.isdecimal():
        raise UserError(
            f"JAX_COORDINATOR_ADDRESS is set, so {variable} must be a number, not"
            f" {text!r}"
        )
    return int(text)


def free_memory() -> float:
    """Bytes free on each device: its share of the host's, where it is a CPU, and
    infinity where nothing tells."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    meminfo = Path("/proc/meminfo")
    text = meminfo.read_text() if meminfo.exists() else ""
    found = re.search(r"MemAvailable: *(\d+) kB", text)
    return int(found[1]) * 1024 / len(devices) if found else math.inf


def require_memory(arrays: Any, what: str, hint: str) -> None:
    """Make sure that a device has room for its part of a tree of ShapeDtypeStruct.

    Raises:
      UserError: it has not. Without this a CPU would not fail but hang.
    """
    need, free = 0, free_memory()
    for x in jax.tree.leaves(arrays):
        shape = x.sharding.shard_shape(x.shape) if x.sharding else x.shape
        need += math.prod(shape) * x.dtype.itemsize
    if need > free:
        raise UserError(
            f"{what} need {need / 2**30:,.1f} GiB on a device, and {free / 2**30:.1f}"
            f" are free; {hint}"
        )


def describe() -> str:
    """The devices, in words."""
    return f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"


def is_first() -> bool:
    """Whether this process is the one that prints and writes shared files."""
    return not are_several() or jax.process_index() == 0
