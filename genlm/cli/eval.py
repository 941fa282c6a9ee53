"""`genlm eval`: runs on tasks, side by side."""

import argparse
import json
from pathlib import Path
from typing import Any

from genlm.errors import UserError, require_text

EXAMPLE = "genlm eval --from runs/life --tasks arc_easy,piqa --data data --limit 200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--from",
        dest="sources",
        required=True,
        action="append",
        type=Path,
        metavar="DIR",
        help="a run directory; may be given again, to compare",
    )
    add(
        "--tasks",
        required=True,
        help="names or paths of descriptions, with commas; one that is not known lists"
        " those that are",
    )
    add("--data", default=".", help="the folder that their data stands in")
    add("--limit", type=int, default=0, help="rows of each task; 0 for all")
    add(
        "--run-code",
        action="store_true",
        help="run the programs that a model generates, in a jail; read docs/graders.md",
    )
    add(
        "--checkpoint",
        default="last",
        help="last, best, a step, or mean:K of the last K",
    )
    add("--out", type=Path, help="a folder for results.json and rows.jsonl")
    add("--json", action="store_true", help="print results.json, and no table")


def main(arguments: argparse.Namespace) -> int:
    for source in arguments.sources:
        require_text(str(source), "--from")
        if not source.is_dir():
            raise UserError(f"--from: no directory {source}")
    names = tuple(filter(None, arguments.tasks.split(",")))
    if not names:
        raise UserError("--tasks names none")

    from genlm.evaluate import side_by_side
    from genlm.evaluate.side_by_side import Side
    from genlm.interop.run import find, open_run
    from genlm.parallel import hosts
    from genlm.runs import directory
    from genlm.stages import measuring

    asked = measuring.TasksConfig(
        names, arguments.data, arguments.limit, arguments.run_code
    )
    questions = asked.questions()
    folders = [find(source) for source in arguments.sources]
    recipes = measuring.recipes(folders)
    hosts.setup()
    sides, runs = [], []
    for source, folder in zip(arguments.sources, folders):
        opened = open_run(folder, arguments.checkpoint)
        found = measuring.measure(opened, folder, questions)
        sides.append(Side(str(source), found.tasks, found.rows))
        runs.append({"run": str(source), "step": opened.step, "tasks": found.tasks})
        del opened  # before the next one comes
    content: dict[str, Any] = {"runs": runs}
    if arguments.out:
        directory.create(arguments.out)
        rows = ({"run": side.name, **row} for side in sides for row in side.rows)
        measuring.write_rows(arguments.out / "rows.jsonl", rows)
        directory.write_json(arguments.out / "results.json", content)
    if arguments.json:
        print(json.dumps(content))
        return 0
    for line in side_by_side.lines(sides, recipes):
        print(line)
    return 0
