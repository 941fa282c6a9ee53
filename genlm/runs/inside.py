"""INSIDE: the looks into a model while it learnt -> a chart each, a line a layer.

Before: health.jsonl, see train.health. After: report. The deeper a layer, the darker.
"""

from typing import Any, Mapping, Sequence

import numpy as np

from genlm.runs import plots

Rows = Sequence[Mapping[str, Any]]

_TITLES = {
    "gradient": "Gradient norm of a layer",
    "update": "Update beside the weight, largest of a layer",
    "activation": "Activation after a layer, root mean square",
    "attention_entropy": "Entropy of attention, nats",
    "dead": "Share of mlp units that are off",
}
_PALEST = 0.3


def charts(rows: Rows) -> list[tuple[str, str]]:
    """(title, svg) of each thing that `rows` hold."""
    if not rows:
        return []
    steps = np.asarray([row["step"] for row in rows])
    return [
        (title, _draw(name, steps, of_layers(rows, name)))
        for name, title in _TITLES.items()
    ]


def of_layers(rows: Rows, name: str) -> np.ndarray:
    """[rows, L]: of what is kept for each parameter, one number a layer."""
    if name in rows[0]:
        return np.asarray([row[name] for row in rows])
    kept = [key for key in rows[0] if key.startswith(f"{name}/layers/")]
    values = np.asarray([[row[key] for key in kept] for row in rows])  # [rows, keys, L]
    if name == "update":
        return values.max(axis=1)
    return np.sqrt(np.square(values).sum(axis=1))


def _draw(name: str, steps: np.ndarray, values: np.ndarray) -> str:
    def draw(axes: Any) -> None:
        marker = "o" if len(steps) <= plots.MARKED else None
        ink = plots.COLOURS["train"]
        for curve, shade in zip(values.T, np.linspace(_PALEST, 1.0, values.shape[1])):
            axes.plot(steps, curve, color=ink, alpha=shade, marker=marker, markersize=2)
        if name == "dead":
            axes.set_ylim(-0.02, max(1.05 * values.max(), 0.1))
        plots.style(axes)

    return plots.svg(name, draw)
