"""CHECK: a prediction of the stage `fit` beside the run that it was made for.

Before: `fit`, whose results.json is read and never written here, and the run, which
began after it. Writes results.json, and scaling.svg with the measured loss in it.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genlm.errors import UserError
from genlm.evaluate import scaling_plot
from genlm.runs import directory, lineage
from genlm.stages import fit, rerun

READS = ("seed", "source", "runs")
_CLOSE = 0.01  # as near as parameters and tokens must be to those foretold


def read(config: ConfigDict) -> None:
    """Make sure that the config names one run."""
    if len(config.runs) != 1:
        raise UserError(f"runs {config.runs!r} does not name the one run to check")


def run(config: ConfigDict, workdir: Path) -> None:
    """Set the run of `config.runs` beside the prediction of `config.source`."""
    read(config)
    source, measured = Path(config.source), Path(config.runs[0])
    inputs = fit.inputs_of([source, measured])
    if rerun.is_finished(config, workdir, inputs):
        _show(directory.read_json(workdir / "results.json"))
        return
    if changed := lineage.changed(source, lineage.read(source).get("outputs", {})):
        raise UserError(f"damaged: {changed[0]}")
    directory.create(workdir)
    told = directory.read_json(source / "results.json")
    results = _compare(told["prediction"], fit.Measured.of(measured))
    rerun.save_config(config, workdir)
    directory.write_json(workdir / "results.json", results)
    drawn = scaling_plot.write(workdir / "scaling.svg", told, results["measured"])
    outputs = lineage.of_outputs(workdir, ["results.json", *drawn])
    lineage.write(workdir, inputs, outputs)
    _show(results)


def _compare(told: dict[str, Any], run: fit.Measured) -> dict[str, Any]:
    for name in ("parameters", "tokens"):
        if abs(getattr(run, name) / told[name] - 1) > _CLOSE:
            raise UserError(
                f"the prediction is for {told[name]:,} {name}, and {run.name} has"
                f" {getattr(run, name):,}"
            )
    guesses = {
        "the law": told["loss"],
        "a power law in compute alone": told["by_compute_alone"],
        "the best run of the ladder": told["best_run"],
    }
    low, high = told["interval"]
    return {
        "measured": run.loss,
        "interval": told["interval"],
        "is_within": low <= run.loss <= high,
        "relative_error": {k: v / run.loss - 1 for k, v in guesses.items()},
    }


def _show(results: dict[str, Any]) -> None:
    low, high = results["interval"]
    inside = "within" if results["is_within"] else "outside of"
    print(f"measured: {results['measured']:.4f}, {inside} {low:.4f} to {high:.4f};")
    for name, error in results["relative_error"].items():
        print(f"  {100 * error:+.2f} %  {name}")
    print(flush=True)
