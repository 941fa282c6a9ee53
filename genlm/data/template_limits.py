"""THE LIMITS OF A CHAT TEMPLATE: time and room, taken step by step.

Before and after: genlm.data.template, which asks before each step that makes something.
"""

import threading
import time
from typing import Any

from jinja2.sandbox import SecurityError

LONGEST = 1 << 24  # characters
TOTAL = 1 << 28  # characters
SECONDS = 5.0
_LARGEST = 1 << 10  # bits of a product
ITEM = 64  # an item of a list weighs as many characters


class Left(threading.local):
    """What a rendering may still use; each thread has its own."""

    end, size = 0.0, 0  # of time.monotonic(); characters

    def renew(self) -> None:
        self.end, self.size = time.monotonic() + SECONDS, TOTAL

    def look_at_clock(self) -> None:
        if time.monotonic() > self.end:
            raise SecurityError(f"it runs longer than {SECONDS:g} seconds")

    def take(self, size: int) -> None:
        """Make sure that there is room for something of `size`."""
        self.size -= size
        if size > LONGEST or self.size < 0:
            raise SecurityError(
                f"it makes more than {LONGEST:,} characters at once or {TOTAL:,} in all"
            )


def weight(value: Any) -> int:
    """About how much room `value` takes, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (list, tuple, dict)):
        return ITEM * len(value)
    return 1


def require_small(value: Any) -> None:
    """Make sure that `value`, written out with all that is in it, is not too long.

    A list that holds another twice, which holds another twice, is short and endless.

    Raises:
      SecurityError: it is.
    """
    left, stack = LONGEST, [value]
    while stack:
        item = stack.pop()
        left -= weight(item)
        if left < 0:
            raise SecurityError(f"it makes a list of more than {LONGEST:,} characters")
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            stack += item


def product_weight(left: Any, right: Any) -> int:
    if isinstance(left, int):
        left, right = right, left
    if isinstance(left, (str, list, tuple)) and isinstance(right, int):
        return weight(left) * max(0, right)
    bits = sum(n.bit_length() for n in (left, right) if isinstance(n, int))
    return bits if bits < _LARGEST else LONGEST + 1
