"""`genlm` in a process of its own, as a user calls it."""

import os
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[1]


def genlm(*arguments: object, code: int = 0, **popen) -> subprocess.CompletedProcess:
    """Run the command from the project's root; its exit code must be `code`."""
    environment = {**os.environ, "XLA_FLAGS": "", **popen.pop("env", {})}
    done = subprocess.run(
        [sys.executable, "-m", "genlm.cli", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        **popen,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stderr[-3000:]}"
    return done
