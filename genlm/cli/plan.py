"""`genlm plan`: what a recipe needs, and allows, on TPUs that are not here."""

import argparse
import json
import os
import sys
from typing import Any, Iterator

from genlm.errors import UserError

EXAMPLE = (
    "genlm plan experiments/pretrain_1b.py --topology v5e:4x4 --tokens 2e10"
    " --price 1.2"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", help="FILE or FILE:ARG, a config of one pretrain stage")
    add("--topology", required=True, help="such as v5e:4x4, v5p:2x2x4 or v6e:16x16")
    add("--serve", type=int, default=0, metavar="ROWS", help="plan answering instead")
    add("--sweep", action="store_true", help="try meshes and remat policies, and rank")
    add("--tokens", type=float, default=0.0, help="a budget, to say days and cost")
    add("--price", type=float, default=0.0, help="of a chip-hour, in your currency")
    add("--json", action="store_true", help="one object, for a program")
    parser.usage = (
        "genlm plan CONFIG[:ARG] --topology KIND:GRID [--serve ROWS | --sweep]"
        " [--tokens N] [--price P] [--json] [--config.key=value ...]"
    )


def main(arguments: argparse.Namespace) -> int:
    if min(arguments.serve, arguments.tokens, arguments.price) < 0:
        raise UserError("--serve, --tokens and --price are not below 0")
    if arguments.price and not arguments.tokens:
        raise UserError("--price is of a budget: say --tokens, too")
    if arguments.serve and arguments.sweep:
        raise UserError("--serve and --sweep do not go together")

    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # no chip of this machine is used

    from genlm import config
    from genlm.runs.progress import Bar
    from genlm.stages import planning

    resolved = config.load(arguments.config, arguments.rest)
    if arguments.sweep:
        with Bar("plans", None, unit="plans") as bar:

            def report(done: int, of: int, said: str) -> None:
                print(f"{done} of {of}: {said}", file=sys.stderr, flush=True)
                bar.update(done)

            ranked = planning.sweep(resolved, arguments.topology, report)
        if not ranked:
            raise UserError("none of these fits")
    elif arguments.serve:
        plans = planning.serve(resolved, arguments.topology, arguments.serve)
        ranked = [(each.what, each) for each in plans]
    else:
        ranked = [("", planning.train(resolved, arguments.topology))]
    tokens, price = arguments.tokens, arguments.price
    if arguments.json:
        rows = [{"name": n, **planning.as_dict(p)} for n, p in ranked]
        for row, (_, each) in zip(rows, ranked):
            if tokens:
                row["budget"] = planning.budget(each, tokens, price)._asdict()
        print(json.dumps({"plans": rows}))
        return 0
    for name, planned in ranked:
        print("\n".join(_lines(name, planned, tokens, price)))
    return 0


def _lines(name: str, planned: Any, tokens: float, price: float) -> Iterator[str]:
    """What a person reads. Bytes, operations and seconds are of one chip."""
    plan = planned.plan
    yield f"{planned.what} {name}".rstrip() + (
        f": {planned.parameters:,} parameters, {planned.tokens:,} tokens on"
        f" {plan.chips} chips of {planned.topology}"
    )
    share = plan.peak / plan.hbm
    tight = " (little is left for batches and checkpoints)" if share > 0.9 else ""
    yield (
        f"  memory      {_size(plan.peak)} of {_size(plan.hbm)}, {share:.0%}:"
        f" arguments {_size(plan.arguments)}, temporaries {_size(plan.temporaries)}"
        + tight
    )
    times = plan.compiled_flops / planned.model_flops
    yield (
        f"  operations  {plan.compiled_flops / 1e12:,.2f} T in products, {times:.2f} of"
        " the model's own"
    )
    yield f"  HBM         {_size(plan.hbm_bytes)} read and written, about"
    for each in plan.traffic:
        yield (
            f"  links       {_size(each.bytes)} by {each.kind} over {each.axes},"
            f" {each.messages:,} messages, {1000 * each.seconds:,.1f} ms"
        )
    yield (
        f"  at least    {1000 * plan.bound_seconds:,.1f} ms: products"
        f" {1000 * plan.compute_seconds:,.1f}, HBM {1000 * plan.hbm_seconds:,.1f},"
        f" links {1000 * plan.link_seconds:,.1f}"
    )
    yield (
        f"  at most     {planned.rate:,.0f} tokens/s, {planned.utilisation:.0%} of the"
        " chip's products used by the model"
    )
    if tokens:
        from genlm.stages import planning

        needs = planning.budget(planned, tokens, price)
        cost = f", {needs.cost:,.0f} at {price:g}" if price else ""
        yield (
            f"  {tokens:.3g} tokens  {needs.days:,.2f} days or more,"
            f" {needs.chip_hours:,.0f} chip-hours{cost}"
        )
    yield f"  compiled in {plan.compile_seconds:.0f} s"


def _size(number: float) -> str:
    return f"{number / 2**30:.2f} GiB"
