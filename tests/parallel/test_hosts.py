"""Several real processes: each reads its own rows, and the loss is that of one. What a
process sets up, it sets up once."""

import json
from pathlib import Path
import re
import socket
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from genlm.data import shards
from genlm.parallel import hosts
from tests.command import ROOT, environment


def _write_tokens(folder: Path) -> None:
    rng = np.random.default_rng(0)
    writer = shards.Writer(folder, 64)
    for length in rng.integers(1, 40, 60):
        writer.begin(1)
        writer.append(rng.integers(3, 64, length), int(length))
        writer.end(2)
    writer.close()


def _start(
    folder: Path, sizes: dict[str, int], devices: int, host: dict[str, str]
) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.parallel.two_processes",
            str(folder),
            json.dumps(sizes),
        ],
        cwd=ROOT,
        env=environment(XLA_FLAGS=flags, **host),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _losses(process: subprocess.Popen) -> list[float]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return [float(x) for x in re.findall(r"loss=(\S+)", out)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 2, "fsdp": 2},
        {"tensor": 4},
        {"context": 4},
        {"fsdp": 2, "context": 2},
    ],
    ids=str,
)
def test_two_processes_see_the_batches_of_one(sizes: dict[str, int], tmp_path: Path):
    """Also where both hold the same rows, or half of each."""
    _write_tokens(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    both = [
        _start(tmp_path, sizes, 2, {**joined, "JAX_PROCESS_ID": str(i)}) for i in (0, 1)
    ]
    first, second = (_losses(p) for p in both)
    alone = _losses(_start(tmp_path, sizes, 4, {}))
    assert first == second and len(alone) == 3
    np.testing.assert_allclose(first, alone, rtol=1e-5)


def test_a_damaged_program_is_dropped_by_one_hook(tmp_path: Path, monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *rest, **named: shown.append(1))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    hosts.setup()
    hook = warnings.showwarning
    hosts.setup()
    jax.config.update("jax_compilation_cache_dir", before)
    assert warnings.showwarning is hook
    compiled = tmp_path / "genlm" / "jax"
    compiled.mkdir(parents=True)
    for name in ("ab12-cache", "ef-cache"):
        (compiled / name).write_bytes(b"")
    said = "Error reading persistent compilation cache entry for 'ab12': cut off"
    hook(UserWarning(said), UserWarning, "file", 1)
    assert [path.name for path in compiled.iterdir()] == ["ef-cache"] and not shown
    hook(UserWarning("another"), UserWarning, "file", 1)
    assert shown == [1]
