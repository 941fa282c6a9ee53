"""REPORT: what a run directory holds -> one HTML page that needs nothing but itself.

Before: contents and plots. After: a reader with a browser. The page is a pure function
of the files.
"""

from pathlib import Path
import statistics
from typing import Any, NamedTuple

from genlm.runs import axes, contents, directory, inside
from genlm.runs import page as pages
from genlm.runs import plots, results
from genlm.runs.contents import Count, Stage
from genlm.runs.results import Difference

_OWN = "this model"  # what the evaluated model's name in results.json begins with
_SHOWN_SAMPLINGS = 8


class Card(NamedTuple):
    label: str
    value: str
    note: str


class Bar(NamedTuple):
    """A model or baseline: its bits a byte, and as a percentage of the largest."""

    name: str
    bits: float
    width: float
    against_own: str
    is_own: bool


class Training(NamedTuple):
    """A stage that has metrics, as the page shows it."""

    stage: Stage
    curves: list[plots.Chart]
    speed: list[plots.Chart]
    inside: list[tuple[str, str]]  # titles and charts
    facts: dict[str, str]
    samples: list[tuple[str, list[tuple[int, dict[str, str]]]]]
    checkpoints: list[tuple[int, str]]


def write(
    folder: Path, out: Path, count: Count, difference: Difference | None = None
) -> None:
    """Write the page of `folder`, a stage's run or a life, to `out`."""
    directory.write_atomic(out, page(folder, count, difference))


def page(folder: Path, count: Count, difference: Difference | None = None) -> str:
    """The HTML of a stage's run directory, or of a life's.

    Args:
      count: how many parameters a model has.
      difference: of two stages on a task; without it, intervals alone are shown.

    Raises:
      UserError: there is nothing to report, or no matplotlib or jinja2.
    """
    stages = contents.read(folder)
    pages.require()
    models = [(s, s.of_model(count)) for s in stages if s.model]
    return pages.render(
        "report.html",
        title=folder.resolve().name,
        stages=stages,
        cards=_cards(stages, models),
        models=models,
        trainings=[_training(s, stages) for s in stages if s.metrics],
        results=[(s, _bars(s.bits)) for s in stages if s.results],
        tasks=results.tables(stages, difference),
        gains=results.gains(stages),
    )


def training_seconds(rows: plots.Rows) -> float:
    """Seconds of training, over all the times that the run went on."""
    times = axes.elapsed(rows)
    return times[-1] if times else 0.0


def _cards(stages: list[Stage], models: list[tuple[Stage, int]]) -> list[Card]:
    """The numbers to see first, as far as they are known."""
    cards = _bits_card(stages)
    if models:
        stage, number = models[-1]
        shape = f"{stage.model['num_layers']} layers of {stage.model['model_dim']}"
        cards.append(Card("parameters", plots.short(number), shape))
    trained = [s for s in stages if s.metrics]
    for stage in trained[-1:]:
        for data in (d for d in stages if d.summary and stage.is_made_from(d)):
            train = data.summary["train"]
            tokens = plots.short(train["tokens"])
            counts = [row["tokens"] for row in stage.metrics if "tokens" in row]
            # no BOS is predicted, so none is counted there
            times = max(counts, default=0) / (train["tokens"] - train["documents"])
            often = plots.short(times) if times >= 0.01 else "less than 0.01"
            cards.append(Card("training tokens", tokens, f"read {often} times"))
    if trained:
        seconds = sum(training_seconds(s.metrics) for s in trained)
        steps = sum(s.step for s in trained)
        note = f"{steps:,} step{'s' if steps > 1 else ''}"
        cards.append(Card("training time", pages.clock(seconds), note))
    return cards


def _bits_card(stages: list[Stage]) -> list[Card]:
    """Held-out bits a byte: as evaluated, else as last measured while training."""
    label = "held-out bits a byte"
    measured = [_bars(stage.bits) for stage in reversed(stages)]
    # where there is something to hold it against first: the text that was trained on
    for bars in sorted(measured, key=lambda bars: all(b.is_own for b in bars)):
        for own in (b for b in bars if b.is_own):
            rest = [b for b in bars if not b.is_own]
            note = f"best baseline {rest[0].bits:.3f}" if rest else own.name
            return [Card(label, f"{own.bits:.3f}", note)]
    for stage in reversed(stages):
        for step, bits in plots.points(stage.metrics, "valid_bits_per_byte")[-1:]:
            return [Card(label, f"{bits:.3f}", f"at step {step:,.0f}")]
    return []


def _bars(bits: dict[str, float]) -> list[Bar]:
    """The lowest first."""
    own = [value for name, value in bits.items() if name.startswith(_OWN)]
    bars = []
    for name, value in sorted(bits.items(), key=lambda item: item[1]):
        is_own = name.startswith(_OWN)
        against = "" if is_own or not own else f"{100 * (value / own[0] - 1):+.1f} %"
        width = 100 * value / max(bits.values())
        bars.append(Bar(name, value, round(width, 1), against, is_own))
    return bars


def _training(stage: Stage, stages: list[Stage]) -> Training:
    rows = stage.metrics
    measured = [s for s in stages if s.is_made_from(stage)]
    levels = [b.bits for s in measured for b in _bars(s.bits) if not b.is_own]
    titles = plots.CURVES | plots.other_titles(rows)
    return Training(
        stage,
        curves=plots.charts(rows, titles, min(levels, default=None)),
        speed=plots.charts(rows, plots.SPEED, None),
        inside=inside.charts(stage.health),
        facts=_facts(rows),
        samples=_samples_by_prompt(stage.samples),
        checkpoints=stage.checkpoints(),
    )


def _facts(rows: plots.Rows) -> dict[str, str]:
    """Speed and memory in single numbers."""
    facts = {"Time, with validation and saving": pages.clock(training_seconds(rows))}
    rates, memory, shares = (
        [float(value) for _, value in plots.points(rows, name)]
        for name in ("tokens_per_second", "memory_mb", "trained_share")
    )
    if rates:
        facts["Tokens a second, median"] = f"{statistics.median(rates):,.0f}"
    if memory:
        facts["Memory in use, largest"] = f"{max(memory):,.0f} MiB"
    if shares:
        facts["Token slots trained on, mean"] = f"{100 * statistics.mean(shares):.1f} %"
    return facts


def _samples_by_prompt(
    rows: list[dict[str, Any]],
) -> list[tuple[str, list[tuple[int, dict[str, str]]]]]:
    """(prompt, [(step, sample)]) of each prompt, at a few steps from first to last."""
    last = len(rows) - 1
    few = min(len(rows), _SHOWN_SAMPLINGS)
    chosen = [rows[round(n * last / max(few - 1, 1))] for n in range(few)]
    steps = [row["step"] for row in chosen]
    columns = zip(*(row["samples"] for row in chosen))
    return [(c[0]["prompt"], list(zip(steps, c))) for c in columns]
