"""`genlm doctor`: devices, versions, memory and extras, for a first look and for bug
reports."""

import argparse
from importlib import metadata, util
import os
import platform

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
    import jax

    import genlm

    print(f"genlm {genlm.__version__}, Python {platform.python_version()}")
    for name in CORE:
        print(f"  {name} {metadata.version(name)}")
    print(f"{jax.device_count()} {jax.default_backend()} devices")
    for device in jax.devices():
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        free = (
            f", {(limit - stats['bytes_in_use']) / 2**30:.1f} GiB free" if limit else ""
        )
        print(f"  {device.device_kind} {device.id}{free}")
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    print(f"host: {os.cpu_count()} cores, {pages / 2**30:.1f} GiB free")
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if util.find_spec(m) is None]
        hint = f"no: pip install 'genlm[{extra}]' (lacks {', '.join(missing)})"
        print(f"extra {extra}: {hint if missing else 'yes'}")
    return 0
