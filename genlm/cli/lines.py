"""THE LINES of a file, or of standard input, that a verb is given."""

from pathlib import Path
import sys

from genlm.errors import UserError


def read(name: str, option: str) -> list[str]:
    """The lines of a file, or of standard input where `name` is -.

    Raises:
      UserError: it cannot be read, is not UTF-8, or has no line.
    """
    where = "standard input" if name == "-" else name
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"cannot read {option} {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8: bad byte at {error.start}") from error
    if not text:
        raise UserError(f"{option}: {where} is empty; write one a line")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
