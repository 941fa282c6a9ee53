"""THE TABLE: rows of measurements as text or JSON, and the arguments all share.

A ratio is always read the same way: above 1, genlm is ahead of what stands beside it.
"""

import argparse
import dataclasses
from importlib import metadata
import json
import os
from pathlib import Path
import platform
import sys
from typing import Any, Callable, Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from genlm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured thing; None where there is nothing to say."""

    name: str
    ours: float
    unit: str
    peer: float | None = None  # the peer's figure, a physical limit, or a goal
    ratio: float | None = None  # median of the pairs
    utilisation: float | None = None  # of the machine's matrix products; ours
    spread: float | None = None  # (highest - lowest) / median, of ratios or repeats


Measure = Callable[[argparse.Namespace], Iterable[Row]]


def main(description: str, measure: Measure) -> int:
    """Measure, print the table or JSON, and return the exit code.

    What was measured before an error is printed too.
    """
    arguments = parse(description)
    warn_if_busy()
    rows, code = [], 0
    try:
        for row in measure(arguments):
            say(f"{row.name}: {number(row.ours)} {row.unit}")
            rows.append(row)
    except UserError as error:
        say(f"benchmarks: {error}")
        code = 1
    if not rows:
        return code
    if arguments.json:
        print(to_json(rows))
    else:
        show(description, rows)
    return code


def parse(description: str) -> argparse.Namespace:
    """The command's arguments: peer, json and full."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--peer",
        choices=("torch", "none"),
        help="what to measure beside genlm (default: torch where it is installed)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--full", action="store_true", help="slow settings as well")
    return parser.parse_args()


def say(text: str) -> None:
    """A line about the work, apart from its result."""
    print(text, file=sys.stderr, flush=True)


def warn_if_busy() -> None:
    """Say so if other work is running: it slows the two sides unequally."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores + 0.5:
        say(f"this machine is busy, load {load:.1f} on {cores} cores: trust no figure")


def to_json(rows: Iterable[Row]) -> str:
    return json.dumps({"rows": [dataclasses.asdict(row) for row in rows]})


def from_json(text: str) -> list[Row]:
    """The rows that `to_json` wrote."""
    return [Row(**row) for row in json.loads(text)["rows"]]


def show(title: str, rows: Iterable[Row]) -> None:
    """Print a table that is Markdown as well."""
    table = Table(box=box.MARKDOWN)
    table.add_column("measured", no_wrap=True)
    for name in ("genlm", "beside", "ratio", "unit", "utilisation", "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            number(row.ours),
            number(row.peer),
            number(row.ratio),
            row.unit,
            percent(row.utilisation),
            percent(row.spread),
        )
    print(f"\n{title}")
    Console(width=200).print(table)


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def machine() -> str:
    """Versions and hardware, one line: what every figure depends on."""
    names = ("genlm", "jax", "torch", "transformers")
    installed: dict[str, Any] = {"Python": platform.python_version()}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "absent"
    versions = ", ".join(f"{name} {version}" for name, version in installed.items())
    return f"{versions}; {os.cpu_count()} cores, {_processor()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [n.partition(":")[2].strip() for n in lines if n.startswith("model name")]
    return models[0] if models else platform.processor()
