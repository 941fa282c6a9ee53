"""The one exception that every room may raise and the command turns into a line."""


class UserError(Exception):
    """A mistake that its user can mend: says what, where, and what would work."""
