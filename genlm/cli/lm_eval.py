"""`genlm lm_eval`: the task files of EleutherAI's harness on a run."""

import argparse
import json
from pathlib import Path

from genlm.errors import UserError, require_text

EXAMPLE = "genlm lm_eval --from runs/life --include tasks --tasks my_task --limit 100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--from", dest="source", required=True, type=Path, help="a run directory")
    add("--tasks", required=True, help="names of lm-eval's tasks, with commas")
    add("--include", type=Path, help="a folder of task files (YAML) besides its own")
    add("--limit", type=int, help="rows of each task; all where it is not given")
    add(
        "--checkpoint",
        default="last",
        help="last, best, a step, or mean:K of the last K",
    )
    add("--json", action="store_true", help="print lm-eval's results as JSON")


def main(arguments: argparse.Namespace) -> int:
    require_text(str(arguments.source), "--from")
    for name in ("source", "include"):
        path = getattr(arguments, name)
        if path is not None and not path.is_dir():
            option = "--from" if name == "source" else f"--{name}"
            raise UserError(f"{option}: no directory {path}")
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit} is not positive")
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
        from lm_eval.utils import make_table
    except ImportError as error:
        raise UserError(
            f"this needs lm-eval: pip install 'genlm[lm-eval]' ({error})"
        ) from error

    from genlm.evaluate.lm_eval_model import GenlmLM
    from genlm.interop.run import open_run
    from genlm.parallel import hosts
    from genlm.stages import measuring

    names = [name for name in arguments.tasks.split(",") if name]
    manager = TaskManager(
        include_path=str(arguments.include) if arguments.include else None
    )
    if unknown := [name for name in names if name not in manager.all_tasks]:
        raise UserError(
            f"lm-eval knows no task {unknown[0]!r}; --include names a folder"
        )
    hosts.setup()
    with measuring.candidate(open_run(arguments.source, arguments.checkpoint)) as model:
        found = simple_evaluate(
            model=GenlmLM(model),
            tasks=names,
            task_manager=manager,
            limit=arguments.limit,
            log_samples=False,
        )
    if arguments.json:
        print(json.dumps(found["results"], default=str))
    else:
        print(make_table(found))
    return 0
