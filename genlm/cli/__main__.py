"""`genlm VERB ...`: find the verb, run it, and say a user's mistake in one line."""

import argparse
import errno
import importlib
import os
import sys
from typing import NoReturn

from genlm.errors import UserError, memory_line

VERBS = {
    "run": "run an experiment config",
    "sweep": "run a config at several settings and seeds, and compare",
    "plan": "say what a recipe needs on TPUs that are not here",
    "generate": "continue prompts with a trained model",
    "eval": "measure runs on tasks, side by side",
    "lm_eval": "run lm-eval's own task files on a run",
    "chat": "talk with a model of conversations",
    "collect": "ask a person which of a model's answers are better, and keep it",
    "classify": "say the class of each line with a trained classifier",
    "embed": "turn texts into vectors, and find what is nearest",
    "import": "make a run of a public model",
    "export": "write a run as a folder that other tools open",
    "report": "write a run's report as one HTML file",
    "verify": "check a run's files against what was written",
    "doctor": "say what this machine and installation can do",
}
_COMPUTING = "run sweep generate chat collect eval lm_eval classify embed".split()
# What a disk or its rights may say to any write, wherever it stands.
_NOT_OUR_FAULT = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)


class _Parser(argparse.ArgumentParser):
    """argparse that says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    if argv is None:
        argv = sys.argv[1:]
        if argv and argv[0] in _COMPUTING:
            _take_huge_pages()
    name = f"genlm {argv[0]}" if argv else "genlm"
    _print_anything()
    try:
        code = _call(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except UserError as error:
        return _say(f"{name}: {error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not (line := memory_line(error) or _lost_line(error)):
            raise
        return _say(f"{name}: {line}", 1)
    except KeyboardInterrupt:
        return _say(f"{name}: interrupted", 130)
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        if error.errno not in _NOT_OUR_FAULT:
            raise
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{name}: {where}{error.strerror}", 1)


def _call(argv: list[str]) -> int:
    parser = _Parser(
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
    if rest and arguments.verb not in ("run", "sweep", "plan"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    return importlib.import_module(f"genlm.cli.{arguments.verb}").main(arguments)


def _lost_line(error: Exception) -> str:
    """What to say where another process of a training has ended."""
    if "JAX_COORDINATOR_ADDRESS" not in os.environ:
        return ""
    from genlm.parallel import hosts

    return hosts.lost_line(error)


def _take_huge_pages() -> None:
    """Start this process again with malloc on huge pages, where glibc has them.

    It reads the setting as a process starts. On virtual machines page faults are dear.
    """
    if hasattr(os, "confstr") and "CS_GNU_LIBC_VERSION" in os.confstr_names:
        if "GLIBC_TUNABLES" not in os.environ:
            os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _print_anything() -> None:
    """Let standard output take any text; what its encoding lacks shows as '?'.

    Models write all of Unicode, and names of files may be no text at all. Standard
    error takes anything already.
    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")


def _say(line: str, code: int) -> int:
    """`code`, once `line` stands on stderr as one line."""
    print(" ".join(line.split("\n")), file=sys.stderr)
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        from genlm.parallel import hosts

        hosts.leave(code)
    return code


def _drop_output() -> None:
    """Send what is left of the output nowhere: at exit Python would try again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
