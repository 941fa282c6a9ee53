"""All benchmarks, each in a process of its own: python -m benchmarks [--json]."""

import subprocess
import sys

from benchmarks import table
from benchmarks.table import Row

BENCHMARKS = (
    "train_step",
    "input_pipeline",
    "start_up",
    "memory",
    "import_model",
    "evaluation",
    "align",
)


def main() -> int:
    """Run them all; the exit code is 1 if one of them failed."""
    arguments = table.parse("genlm's benchmarks")
    passed_on = ["--full"] * arguments.full
    passed_on += ["--peer", arguments.peer] if arguments.peer else []
    rows: list[Row] = []
    failed = False
    for name in BENCHMARKS:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--json", *passed_on],
            stdout=subprocess.PIPE,
            text=True,
        )
        failed |= done.returncode != 0
        these = table.from_json(done.stdout) if done.stdout else []
        rows += these
        if not arguments.json:
            table.show(name, these)
    print(table.to_json(rows) if arguments.json else table.machine())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
