"""The plans of the recipes for TPU pods: docs/plans.md, made anew.

  python -m benchmarks.plans                 all of them
  python -m benchmarks.plans 125m 1b         those of some sizes; the other rows stay

It needs the compiler for TPUs (`pip install 'genlm[tpu]'`), and no TPU.
"""

from importlib import metadata
from pathlib import Path
import re
import sys
from typing import NamedTuple

from genlm import config
from genlm.stages import planning
from genlm.stages.planning import Planned

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "plans.md"
GRIDS = {  # recipe: (argument, topology)
    "125m": (("v5e", "v5e:4x4"), ("v5p", "v5p:2x2x4"), ("v6e", "v6e:4x4")),
    "1b": (("v5e", "v5e:8x8"), ("v5p", "v5p:4x4x4"), ("v6e", "v6e:8x8")),
    "8b": (("v5e", "v5e:16x16"), ("v5p", "v5p:4x8x8"), ("v6e", "v6e:16x16")),
    "70b": (("v5e", "v5e:16x16"), ("v5p", "v5p:8x8x8"), ("v6e", "v6e:16x16")),
    "moe_8x": (("v5e", "v5e:8x8"), ("v5p", "v5p:4x4x4"), ("v6e", "v6e:8x8")),
}
HEAD = """# Plans

What `genlm plan` says of the recipes for TPU pods, from the compiler alone: no chip was
there. `make plans` writes this page; `make planned` fails where memory, operations or
bytes over links grow by over a twentieth. Of one chip and one step:

- *HBM*: GiB of arguments and temporaries, and their share of the chip's.
- *operations*: those in products that were compiled, over the model's own (6 a
  parameter and token, and causal attention). Full rematerialisation computes layers
  once more.
- *links*: GiB of arrays that are gathered, reduced or passed on between chips.
- seconds of *products*, *HBM* and *links*, each at its published rate; the largest
  bounds the step. *use* is the share of a chip's products that the model then has.
  Nothing overlaps perfectly and no rate is quite reached: a real step takes longer.

Chips' figures and their sources are in `genlm/parallel/chips.py`. Where that fits, a
recipe repeats the model over parts of a slice, so that gradients are reduced and
scattered (docs/log.md).

"""
COLUMNS = (
    "recipe",
    "topology",
    "tokens a step",
    "HBM",
    "operations",
    "links",
    "products",
    "HBM s",
    "links s",
    "use",
)
HEAD += f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"


class Row(NamedTuple):
    """What a test holds fast."""

    memory: float  # GiB
    share: float  # of the chip's
    operations: float  # over the model's own
    links: float  # GiB
    use: float


def main(sizes: list[str]) -> int:
    lines = read() if PAGE.exists() else {}
    for size in sizes or GRIDS:
        for arg, topology in GRIDS[size]:
            planned = plan(size, arg, topology)
            lines[size, arg] = line(size, arg, planned)
            print(lines[size, arg], flush=True)
            _write(lines)
    return 0


def _write(lines: dict[tuple[str, str], str]) -> None:
    order = [(size, arg) for size, grids in GRIDS.items() for arg, _ in grids]
    table = [lines[key] for key in order if key in lines]
    jax, libtpu = map(metadata.version, ("jax", "libtpu"))
    foot = f"\n\nThe last rows were made with jax {jax} and libtpu {libtpu}.\n"
    PAGE.write_text(HEAD + "\n".join(table) + foot, "utf-8")


def plan(size: str, arg: str, topology: str) -> Planned:
    """The plan of a recipe's train step."""
    path = ROOT / "experiments" / f"pretrain_{size}.py"
    return planning.train(config.load(f"{path}:{arg}"), topology)


def line(size: str, arg: str, planned: Planned) -> str:
    """A row of the table."""
    plan, row = planned.plan, summary(planned)
    cells = (
        f"{size}:{arg}",
        planned.topology,
        f"{planned.tokens:,}",
        f"{row.memory:.2f} ({row.share:.0%})",
        f"{row.operations:.3f}",
        f"{row.links:.2f}",
        f"{plan.compute_seconds:.3f}",
        f"{plan.hbm_seconds:.3f}",
        f"{plan.link_seconds:.3f}",
        f"{row.use:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def summary(planned: Planned) -> Row:
    plan = planned.plan
    return Row(
        plan.peak / 2**30,
        plan.peak / plan.hbm,
        plan.compiled_flops / planned.model_flops,
        sum(t.bytes for t in plan.traffic) / 2**30,
        planned.utilisation,
    )


def read() -> dict[tuple[str, str], str]:
    """The rows of the page, by recipe and argument."""
    found = re.findall(r"^\| (\w+):(\w+) \|.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    lines = re.findall(r"^\| \w+:\w+ \|.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    return dict(zip(found, lines))


def kept(text: str) -> tuple[float, float, float]:
    """Memory, operations and links of a row of the page."""
    cells = [cell.strip() for cell in text.strip("| ").split("|")]
    return float(cells[3].split()[0]), float(cells[4]), float(cells[5])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
