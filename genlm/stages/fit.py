"""FIT: finished runs of several sizes and budgets -> what a larger one will measure.

Before: a ladder of pretrain stages on one prepared text. After: the larger run, and the
stage `check`, which sets it beside this prediction. Writes results.json, and
scaling.svg where matplotlib is installed.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.errors import UserError
from genlm.evaluate import scaling, scaling_plot
from genlm.evaluate.scaling import Law, Runs
from genlm.interop import run as interop
from genlm.model import costs, transformer
from genlm.runs import directory, lineage, metrics
from genlm.stages import rerun

READS = ("seed", "runs", "target", "draws")
LIKELY = (0.05, 0.95)  # an interval is from the one share of the draws to the other
POOR = 0.02  # the root mean square of log-residuals above which a fit is called poor


@dataclasses.dataclass(frozen=True)
class Target:
    """The run to foretell."""

    parameters: int  # in products
    tokens: int

    def __post_init__(self) -> None:
        if self.parameters < 1 or self.tokens < 1:
            raise UserError("target.parameters or tokens is not positive")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a finished run says of itself."""

    name: str
    parameters: int
    tokens: int
    loss: float

    @classmethod
    def of(cls, folder: Path) -> "Measured":
        rows = metrics.read(folder / "metrics.jsonl")
        losses = [row["valid_loss"] for row in rows if "valid_loss" in row]
        if not lineage.read(folder).get("outputs") or not losses:
            raise UserError(f"{folder} is not a finished run with a held-out loss")
        model = interop.read_config(folder)
        tokens = [row["tokens"] for row in rows if "tokens" in row]
        # Embeddings count where they are the unembedding too: without them small models
        # follow another law than large ones (arXiv:2406.12907).
        parameters = costs.in_products(
            transformer.param_specs(model), model.active_share
        )
        return cls(folder.name, parameters, tokens[-1], losses[-1])


def read(config: ConfigDict) -> Target:
    """What this stage reads of a config, checked."""
    if type(config.draws) is not int or config.draws < 1:
        raise UserError(f"draws {config.draws!r} is not a positive number")
    if len(set(config.runs)) < scaling.MIN_RUNS:
        raise UserError(
            f"runs names {len(set(config.runs))} runs; a law of five constants needs"
            f" {scaling.MIN_RUNS}"
        )
    return configs.to_dataclass(Target, config.target)


def run(config: ConfigDict, workdir: Path) -> None:
    """Fit a law to `config.runs`, and foretell `config.target`."""
    target = read(config)
    folders = [Path(folder) for folder in config.runs]
    inputs = inputs_of(folders)
    if rerun.is_finished(config, workdir, inputs):
        _show(directory.read_json(workdir / "results.json"))
        return
    _check_one_text(folders)
    directory.create(workdir)
    measured = [Measured.of(folder) for folder in folders]
    results = _results(measured, target, config.draws, config.seed)
    rerun.save_config(config, workdir)
    directory.write_json(workdir / "results.json", results)
    outputs = ["results.json", *scaling_plot.write(workdir / "scaling.svg", results)]
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, outputs))
    _show(results)


def inputs_of(folders: list[Path]) -> dict[str, Any]:
    """Lineage entries of finished stages that are read."""
    return {
        str(folder): {"sha256": lineage.digest(lineage.read(folder).get("outputs"))}
        for folder in folders
    }


def _check_one_text(folders: list[Path]) -> None:
    """Make sure that all losses are of one held-out text in one tokenizer's tokens."""
    first, *others = (
        {entry["sha256"] for entry in lineage.read(folder)["inputs"].values()}
        for folder in folders
    )
    for folder, other in zip(folders[1:], others):
        if other != first:
            raise UserError(f"{folders[0]} and {folder} were trained on different data")


def _results(
    measured: list[Measured], target: Target, draws: int, seed: int
) -> dict[str, Any]:
    runs = Runs(
        *(
            np.asarray([getattr(m, name) for m in measured], np.float64)
            for name in ("parameters", "tokens", "loss")
        )
    )
    law = scaling.fit(runs)
    laws, outcomes = scaling.bootstrap(
        law, runs, target.parameters, target.tokens, draws, seed
    )
    compute = 6.0 * target.parameters * target.tokens
    off = scaling.residuals(law, runs)
    return {
        "runs": [dataclasses.asdict(m) for m in measured],
        "law": {k: float(v) for k, v in law._asdict().items()},
        "intervals": {
            k: _interval([getattr(each, k) for each in laws]) for k in Law._fields
        },
        "interval_of": LIKELY,
        "residual": float(np.sqrt(np.mean(off**2))),
        "prediction": {
            **dataclasses.asdict(target),
            "loss": float(law(target.parameters, target.tokens)),
            "interval": _interval(outcomes),
            "times_the_compute": compute / float(runs.compute.max()),
            "by_compute_alone": scaling.compute_law(runs, compute),
            "best_run": float(runs.losses.min()),
        },
    }


def _interval(values: Any) -> list[float]:
    return [float(x) for x in np.quantile(values, LIKELY)]


def _show(results: dict[str, Any]) -> None:
    law, ends = results["law"], results["intervals"]
    print("L = E + A / parameters^alpha + B / tokens^beta, in nats a token:")
    for name, value in law.items():
        print(f"  {name:5} {value:.4g} ({ends[name][0]:.4g} to {ends[name][1]:.4g})")
    residual = results["residual"]
    poor = "; a poor fit, not to be trusted" if residual > POOR else ""
    print(f"{len(results['runs'])} runs, off by {100 * residual:.2f} %{poor}")
    told = results["prediction"]
    low, high = told["interval"]
    print(
        f"foretold: {told['loss']:.4f} (nine draws of ten: {low:.4f} to {high:.4f}) for"
        f" {told['parameters']:,} parameters and {told['tokens']:,} tokens, with"
        f" {told['times_the_compute']:.1f} times the compute of any run here",
        flush=True,
    )
