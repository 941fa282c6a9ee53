"""What every room may raise and the command turns into a line."""

import signal

_LESS = "; a smaller batch, more microbatches, shorter rows or fewer tokens need less"


class UserError(Exception):
    """A mistake that its user can mend: says what, where, and what would work."""


class Stopped(Exception):
    """Signal `number` asked a run to end; its state at `step` is saved, or an older one
    counts."""

    def __init__(self, number: int, step: int, is_saved: bool = True):
        what = "saved" if is_saved else "the newest checkpoint is from before"
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} at step {step}; {what}")
        self.number = number


def memory_line(error: Exception) -> str:
    """What to say of an error that is a lack of memory; '' of any other."""
    if isinstance(error, MemoryError):
        return f"out of memory: {error or 'on the host'}{_LESS}"
    # jax's is a RuntimeError; asking for its class would load jax
    text = str(error).split("\n")[0]
    if not isinstance(error, RuntimeError) or not text.startswith("RESOURCE_EXHAUSTED"):
        return ""
    return text.removeprefix("RESOURCE_EXHAUSTED: ") + _LESS


def require_text(text: str, name: str) -> None:
    """Make sure that `text`, which the user gave as `name`, has a spelling in UTF-8.

    Raises:
      UserError: it has none. Python takes an argument's stray bytes for surrogates.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name} {text!r} is not UTF-8") from error
