"""CHAT TEMPLATES: Jinja run in a sandbox that knows what the template itself wrote.

Before: a model's chat template, which its maker wrote and nobody here has read. After:
chat. Constants of the template are marked as its own (genlm.data.authored); the marks
follow them through `+`, `~`, trim, split, replace, join, slices, loops, macros and set.

A template runs in this process, so it is limited: no attribute with an underscore, no
change of its inputs, no loading of other templates; only the filters and methods of
strings that are listed here; no large numbers; no text longer than LONGEST; no more
than TOTAL made by all its steps together, which keeps it near a gigabyte at the worst;
and every loop and call looks at the clock and stops after SECONDS. Over a limit is an
error. The limits are in genlm.data.template_limits.
"""

import datetime
import functools
import itertools
import json
import re
from typing import Any, Callable, Iterable, Iterator

import jinja2
from jinja2 import compiler, nodes
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from genlm.data import authored
from genlm.data.template_limits import (
    ITEM,
    LONGEST,
    Left,
    product_weight,
    require_small,
    weight,
)

_SOURCE = 1 << 20  # characters of a template

_FILTERS = frozenset(
    "abs capitalize count d default dictsort first float int items last length list"
    " lower map max min reject rejectattr reverse round select selectattr sort string"
    " title trim unique upper".split()
)
_METHODS = frozenset(
    "capitalize count endswith find index isalnum isalpha isascii isdecimal isdigit"
    " islower isspace istitle isupper join lower lstrip partition removeprefix"
    " removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines"
    " startswith strip swapcase title upper".split()
)


class Template:
    """A chat template, compiled.

    Raises:
      jinja2.TemplateError: it is none, or is too long.
    """

    def __init__(self, source: str):
        if len(source) > _SOURCE:
            raise SecurityError(f"it is longer than {_SOURCE:,} characters")
        self._environment = _Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # a folded constant would lose its mark
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        self._template = self._environment.from_string(source)

    def render(self, **variables: Any) -> str:
        """What the template makes of `variables`, with marks (genlm.data.authored).

        Raises:
          Exception: whatever a template can do wrong.
        """
        self._environment.left.renew()
        return self._template.render(**variables)


class _Code(compiler.CodeGenerator):
    """Python of a template: its constants are marked, and what it makes is weighed."""

    def visit_Const(self, node: nodes.Const, frame: Any) -> None:
        if isinstance(node.value, str):
            self.write(f"environment.own({node.value!r})")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.write("str(")
            self.visit(part, frame)
            self.write("), ")
        self.write("))")

    def visit_Filter(self, node: nodes.Filter, frame: Any) -> None:
        self.write("environment.weighed(")
        super().visit_Filter(node, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Any) -> None:
        if not isinstance(node.arg, nodes.Slice):
            return super().visit_Getitem(node, frame)
        self.write("environment.weighed(")
        super().visit_Getitem(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Any) -> None:
        self.write("environment.weighed(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Any) -> None:
        self.write("environment.weighed(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Any) -> None:
        if node.ctx != "load":  # what a loop or a set assigns to
            return super().visit_Tuple(node, frame)
        self.write("environment.weighed(")
        super().visit_Tuple(node, frame)
        self.write(")")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.own({''.join(map(str, group))!r})"


class _Generation(jinja2.ext.Extension):
    """{% generation %}: marks what an assistant says, for training; here it is read."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Names(Namespace):
    """A namespace in which no name begins with an underscore, as in a sandbox."""

    def __init__(*args: Any, **names: Any) -> None:  # `self` may be one of the names
        Namespace.__init__(*args, **names)
        for name in dict(*args[1:], **names):
            _require_public(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:  # one that holds others twice would be endless
        return "<namespace>"


def _require_public(name: Any) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"it may not set {name!r}")


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Code
    intercepted_binops = frozenset(("+", "*", "**", "%"))
    own = staticmethod(authored.own)

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.left = Left()
        self._methods: dict[str, Callable[..., str]] = {
            "join": self._join_method,
            "replace": self._replace,
        }
        ours = {
            "join": self._join,
            "replace": self._replace,
            "safe": str,  # nothing is escaped here, so there is nothing to keep from it
            "tojson": _to_json,
        }
        allowed = {name: self.filters[name] for name in _FILTERS}
        self.filters = {**allowed, **ours, "_watched": self._watched}
        names = {name: self.globals[name] for name in ("range", "joiner", "cycler")}
        self.globals = {
            **names,
            "dict": _new_dict,
            "namespace": _Names,
            "raise_exception": _raise,
            "strftime_now": _now,
        }

    def _generate(
        self, source: Any, name: Any, filename: Any, defer_init: bool = False
    ) -> str:
        """Python of a parsed template whose loops all look at the clock."""
        for loop in list(source.find_all(nodes.For)):
            loop.iter = nodes.Filter(
                loop.iter, "_watched", [], [], None, None, lineno=loop.lineno
            )
            loop.iter.set_environment(self)
        return super()._generate(source, name, filename, defer_init)

    def _watched(self, items: Any) -> Iterator[Any]:
        for item in items:
            self.left.look_at_clock()
            yield item

    def weighed(self, value: Any) -> Any:
        """`value`, which a step has made."""
        self.left.take(weight(value))
        if isinstance(value, (list, tuple, dict)):
            require_small(value)
        return value

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]
        return self._join(parts)

    def _join(self, parts: Iterable[Any], between: str = "") -> str:
        texts = [str(part) for part in itertools.islice(parts, LONGEST // ITEM)]
        self.left.take(sum(map(len, texts)) + len(between) * len(texts))
        return authored.join(texts, between)

    def _join_method(self, between: str, parts: Iterable[Any]) -> str:
        return self._join(parts, between)

    def _replace(self, value: Any, old: str, new: str, count: int = -1) -> str:
        text = str(value)
        self.left.take(len(text) + (text.count(old) + 1) * len(new))
        return text.replace(old, new, count)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            self.left.take(weight(left) + weight(right))
        elif operator == "*":
            self.left.take(product_weight(left, right))
        elif operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"it uses {operator}, which could grow without end")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("it uses format, which could grow without end")

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        __self.left.look_at_clock()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            name = __obj.__name__
            if name not in _METHODS:
                raise SecurityError(
                    f"it uses {name}, which is not allowed in a template"
                )
            if name in __self._methods:
                return __self._methods[name](owner, *args, **kwargs)
        return __self.weighed(super().call(__context, __obj, *args, **kwargs))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers' templates expect it: no escapes for HTML."""
    if indent is not None and not 0 <= int(indent) <= 16:
        raise SecurityError(f"tojson: indent {indent} is not from 0 to 16")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    """The date and time, by a pattern of strftime without widths."""
    if len(pattern) > 100 or re.search(r"%\W*\d", pattern):
        raise SecurityError(f"strftime_now: {pattern[:100]!r} is not a plain pattern")
    return datetime.datetime.now().strftime(pattern)


def _new_dict(*args: Any, **names: Any) -> dict[Any, Any]:
    return dict(*args, **names)


@functools.lru_cache(maxsize=8)
def compiled(source: str) -> Template:
    """`Template(source)`, kept for the next conversation."""
    return Template(source)
