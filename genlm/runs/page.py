"""PAGE: a template and what fills it -> one HTML file that needs nothing but itself.

Before: report and compare. After: a browser. Names and texts are untrusted: the
template escapes all that it is given but for the charts, and the page forbids scripts
and requests.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from genlm.errors import UserError
from genlm.runs import plots

_CONTROLS = {n: 0x2400 + n for n in range(32) if chr(n) not in "\n\t"} | {127: 0x2421}


def require() -> None:
    """Make sure that a page can be made.

    Raises:
      UserError: there is no matplotlib or jinja2.
    """
    for package in ("matplotlib", "jinja2"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"a report needs {package}: pip install 'genlm[report]'"
            ) from error


def render(template: str, **names: Any) -> str:
    """The page of a template in this folder."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "visible": visible,
        "json": json.dumps,
        "short": plots.short,
    }
    text = environment.get_template(template).render(**names)
    return text.encode("utf-8", "replace").decode("utf-8")  # names of files may not fit


def visible(text: str) -> str:
    """`text` with control characters as their pictures."""
    return text.translate(_CONTROLS)


def clock(seconds: float) -> str:
    """A time in words: '45 s', '12.3 min', '3.12 h'."""
    for scale, unit in ((3600, "h"), (60, "min")):
        if seconds >= scale:
            return f"{seconds / scale:,.3g} {unit}"
    return f"{seconds:.3g} s"
