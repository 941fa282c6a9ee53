"""A DRAWING: what matplotlib draws, as an SVG file that stands alone.

Before: scaling_plot, classification_plot. After: a reader with a browser. The same
figures give the same bytes.
"""

import io
from pathlib import Path
import sys
from typing import Any, Callable

from genlm.runs import directory


def write(
    path: Path, size: tuple[float, float], draw: Callable[[Any], None]
) -> list[str]:
    """Write the figure, `size` in inches, that `draw` fills.

    Returns the names of the files written: none where matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: pip install 'genlm[report]'", file=sys.stderr)
        return []
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    directory.write_atomic(path, text.getvalue())
    return [path.name]
