"""`genlm doctor`: devices, versions, memory and extras, for a first look and for bug
reports."""

import argparse
from importlib import metadata, util
import os
import platform

from genlm.errors import UserError

EXAMPLE = "genlm doctor"
CORE = "jax jaxlib flax optax orbax-checkpoint grain sentencepiece numpy".split()
EXTRAS = {
    "report": ("matplotlib", "jinja2"),
    "test": ("pytest", "hypothesis", "nbclient"),
    "bench": ("torch", "transformers"),
    "tpu": ("libtpu",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(arguments: argparse.Namespace) -> int:
    del arguments
    import genlm

    print(f"genlm {genlm.__version__}, Python {platform.python_version()}")
    lacking = [name for name in CORE if _version(name) is None]
    for name in CORE:
        print(f"  {name} {_version(name) or 'not installed'}")
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if util.find_spec(m) is None]
        hint = f"no: pip install 'genlm[{extra}]' (lacks {', '.join(missing)})"
        print(f"extra {extra}: {hint if missing else 'yes'}")
    print(f"host: {os.cpu_count()} cores{_free_memory()}")
    if lacking:
        raise UserError(f"not installed: {', '.join(lacking)}; run pip install genlm")
    _print_devices()
    return 0


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _free_memory() -> str:
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:  # macOS
        return ""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f", {pages / 2**30:.1f} GiB free"


def _print_devices() -> None:
    import jax

    from genlm.parallel import hosts

    hosts.setup()
    print(f"{jax.device_count()} {jax.default_backend()} devices")
    for device in jax.devices():
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit", 0)
        free = (limit - stats.get("bytes_in_use", 0)) / 2**30
        print(
            f"  {device.device_kind} {device.id}"
            + f", {free:.1f} GiB free" * (limit > 0)
        )
