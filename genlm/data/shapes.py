"""SHAPES: rows of JSON that come in several forms -> what each of them holds.

Before: rows of files. After: conversations (forms) and what people preferred
(preference_forms). A form is told by its fields. A row that does not fit says in words
why.
"""

from typing import Any, Callable, NamedTuple

from genlm.errors import UserError


class Unfit(Exception):
    """Why a row is not what it is read as."""


class Form(NamedTuple):
    """A shape of row: the fields that tell it, and what it holds: one or several."""

    fields: str
    has: Callable[[dict], bool]
    read: Callable[[dict], list[Any]]


class Shapes(NamedTuple):
    """The forms that one thing comes in; `check` makes sure that it is one."""

    what: str  # "conversation"
    forms: dict[str, Form]
    check: Callable[[Any], None]

    def require(self, form: str) -> None:
        """Make sure that `form` names one, or is 'auto'.

        Raises:
          UserError: it does not.
        """
        if form not in ("auto", *self.forms):
            there_are = ", ".join(("auto", *self.forms))
            raise UserError(f"form {form!r} is none; there are {there_are}")

    def read(self, row: Any, form: str) -> list[Any]:
        """What a row of a form holds, checked.

        Raises:
          Unfit: the row has not this form, or lacks what makes one.
        """
        _require_fields(row)
        if not self.forms[form].has(row):
            raise Unfit(f"its fields ({_names(row)}) are not those of {form}")
        found = self.forms[form].read(row)
        for each in found:
            self.check(each)
        return found

    def recognise(self, row: Any) -> str:
        """The form that a row has: the first that it fits, or at least has the fields
        of.

        Raises:
          Unfit: it has the fields of none.
        """
        _require_fields(row)
        like = [form for form in self.forms if self.forms[form].has(row)]
        if not like:
            raise Unfit(f"its fields ({_names(row)}) are those of no form")
        return next((form for form in like if self._fits(row, form)), like[0])

    def describe(self) -> str:
        shapes = "; ".join(f"{n}: {form.fields}" for n, form in self.forms.items())
        return f"a row is one of {shapes}"

    def _fits(self, row: dict, form: str) -> bool:
        try:
            return bool(self.read(row, form))
        except Unfit:
            return False


def text(fields: dict, name: str, whose: str = "its ") -> str:
    """The text of a field.

    Raises:
      Unfit: it is missing, or no text.
    """
    if name not in fields:
        raise Unfit(f"{whose}{name} is missing")
    if not isinstance(fields[name], str):
        raise Unfit(f"{whose}{name} is {kind(fields[name])} and no text")
    return fields[name]


def require_whole(said: str, whose: str) -> None:
    """Make sure that UTF-8 can write a text.

    Raises:
      Unfit: it cannot.
    """
    if any("\ud800" <= character <= "\udfff" for character in said):
        raise Unfit(f"{whose} holds half a character (a lone surrogate)")


def kind(value: Any) -> str:
    """What a value of JSON is, in words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        return kind if value else kind.replace(" ", " empty ").replace("a e", "an e")
    return "a text" if isinstance(value, str) else "a number"


def _require_fields(row: Any) -> None:
    if not isinstance(row, dict):
        raise Unfit(f"{kind(row)} and no object with fields")


def _names(row: dict) -> str:
    named = [str(name)[:30] for name in row]
    return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "") or "none"
