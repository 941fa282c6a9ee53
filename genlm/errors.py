"""What every room may raise and the command turns into a line."""

import signal


class UserError(Exception):
    """A mistake that its user can mend: says what, where, and what would work."""


class Stopped(Exception):
    """Signal `number` asked a run to end; its state at `step` is saved."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(number).name} at step {step}")
        self.number = number
