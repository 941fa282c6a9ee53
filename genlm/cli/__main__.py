"""`genlm VERB ...`: find the verb, run it, and say a user's mistake in one line."""

import argparse
import importlib
import sys

from genlm.errors import UserError

VERBS = {
    "run": "run an experiment config",
    "generate": "continue prompts with a trained model",
    "report": "write a run's report as one HTML file",
    "verify": "check a run's files against what was written",
    "doctor": "say what this machine and installation can do",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="genlm",
        description="The whole life of a generative model.",
        epilog="example: genlm run experiments/life.py --workdir runs/life",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        if argv and argv[0] == name:  # the others stay unloaded
            module = importlib.import_module(f"genlm.cli.{name}")
            verb.epilog = f"example: {module.EXAMPLE}"
            module.add_arguments(verb)
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.verb != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    module = importlib.import_module(f"genlm.cli.{arguments.verb}")
    arguments.rest = rest
    try:
        return module.main(arguments)
    except UserError as error:
        print(f"genlm {arguments.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"genlm {arguments.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
