"""GGUF, THE SETTINGS: the keys of the model's own, all of which are to be asked for.

Before: gguf_header. After: gguf_config. A setting that nobody asked for could change
what the model computes, so it is an error.
"""

from typing import NoReturn

from genlm.errors import UserError
from genlm.interop.gguf_header import Header, shown

_HINTS = ("rope.scaling.finetuned", "tensor_data_layout")  # change nothing


class Settings:
    """The keys of the model's own: 'llama.block_count' is `integer('block_count')`."""

    def __init__(self, header: Header, architecture: str):
        self.header, self.prefix = header, architecture + "."
        self._asked = {self.prefix + name for name in _HINTS}

    def has(self, name: str) -> bool:
        return self._key(name) in self.header.fields

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self.header.integer(self._key(name), default)
        if value < least:
            self.refuse(name, value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self.header.number(self._key(name), default)
        if value <= 0:
            self.refuse(name, value)
        return value

    def text(self, name: str, default: str) -> str:
        return self.header.text(self._key(name), default)

    def require(self, name: str, value: int | bool) -> None:
        """Make sure that `name`, where it is given, is what is computed anyway."""
        if not self.has(name):
            return
        key = self._key(name)
        ask = self.header.flag if isinstance(value, bool) else self.header.integer
        if (given := ask(key)) != value:
            self.refuse(name, given)

    def refuse(self, name: str, value: object) -> NoReturn:
        key = self.prefix + name
        raise UserError(f"{self.header.path}: {key} = {value!r} is not supported")

    def require_all_asked(self) -> None:
        own = {k for k in self.header.fields if k.startswith(self.prefix)}
        if left := own - self._asked:
            raise UserError(
                f"{self.header.path}: setting {shown(min(left))} is not supported"
            )

    def _key(self, name: str) -> str:
        self._asked.add(self.prefix + name)
        return self.prefix + name
