"""GAIN: several runs on several texts, in bits a byte: what was learnt, and forgotten.

Before: a run, and others that went on from it, such as a training on a field's text.
After: the report. Every text is read in one tokenizer's tokens, and the first run is
what the others are compared with, row by row. Writes results.json.
"""

import math
from pathlib import Path
from typing import Any, Iterable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from genlm.data import batches
from genlm.errors import UserError
from genlm.evaluate import statistics
from genlm.interop.run import find, open_run
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import directory, lineage
from genlm.runs.progress import track
from genlm.stages import beginning, hooks, rerun
from genlm.stages.prepare import Prepared
from genlm.train import losses

READS = ("seed", "runs", "texts", "batch_size")


def read(config: ConfigDict) -> None:
    """Check what this stage reads of a config."""
    if len(config.runs) < 2 or not config.texts:
        raise UserError("runs names two runs at least, and texts a prepared text")
    if type(config.batch_size) is not int or config.batch_size < 1:
        raise UserError(f"batch_size {config.batch_size!r} is not a positive number")


def run(config: ConfigDict, workdir: Path) -> None:
    """Measure `config.runs` on the held-out part of `config.texts`."""
    read(config)
    runs = [find(Path(name)) for name in config.runs]
    texts = {name: Prepared(path) for name, path in _named(map(Path, config.texts))}
    inputs = _inputs(runs, texts)
    if rerun.is_finished(config, workdir, inputs, renew=True):
        _show(directory.read_json(workdir / "results.json"))
        return
    hosts.setup()
    directory.create(workdir)
    nats = {name: _nats(run, texts, config.batch_size) for name, run in _named(runs)}
    results = {"gain": {text: _rows(text, nats, texts[text]) for text in texts}}
    rerun.save_config(config, workdir)
    directory.write_json(workdir / "results.json", results)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, ["results.json"]))
    _show(results)


def _inputs(runs: list[Path], texts: dict[str, Prepared]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder in runs:
        outputs = lineage.read(folder).get("outputs")
        found[str(folder)] = {"sha256": lineage.digest(outputs)}
    for text in texts.values():
        found |= text.inputs
    return found


def _named(folders: Iterable[Path]) -> list[tuple[str, Path]]:
    """Folders by their names, or by their paths where names repeat."""
    folders = list(folders)
    names = [each.name for each in folders]
    return [(f.name if names.count(f.name) == 1 else str(f), f) for f in folders]


def _nats(
    folder: Path, texts: dict[str, Prepared], batch_size: int
) -> dict[str, np.ndarray]:
    """Of each text, nats and predicted tokens of its held-out rows [rows, 2]."""
    opened = open_run(folder)
    mesh = meshes.make(meshes.MeshConfig())
    found = {}
    with sharding.laid_out(mesh):
        score = jax.jit(_scorer(opened.config))
        for name, text in texts.items():
            read_with = beginning.tokenizer_of_text(folder, text)
            beginning.check_tokenizers(read_with, text.folder / "tokenizer")
            ways = sharding.ways(mesh, "batch")
            size = -(-batch_size // ways) * ways
            tokens, rows = text.split("valid")
            host = batches.valid_batches(
                tokens, rows, batch_size=size, pad=text.tokenizer.special.pad
            )
            parts = [
                hosts.fetch(score(opened.params, batch))
                for batch in track(
                    hooks.on_devices(host, mesh),
                    f"{folder.name} on {name}",
                    -(-len(rows) // size),
                    "batches",
                )
            ]
            found[name] = np.concatenate(parts)[: len(rows)]
    return found


def _scorer(config: TransformerConfig) -> Any:
    """A function of params and a batch: [B, 2], nats and tokens of its rows."""
    config = config.without_chance

    def score(params: Any, batch: Any) -> jax.Array:
        hidden_BTD, _, _ = transformer.apply(params, batch, config)
        logprobs_BT = losses.token_logprobs(
            params, hidden_BTD, batch["targets"], config
        )
        nats_B = -jnp.sum(logprobs_BT * batch["weights"], axis=1)
        return jnp.stack([nats_B, jnp.sum(batch["weights"], axis=1)], axis=1)

    return score


def _rows(
    text: str, nats: dict[str, dict[str, np.ndarray]], prepared: Prepared
) -> list[dict[str, Any]]:
    """A row a run: bits a byte, and what it has changed against the first, in percent,
    with the interval of each."""
    each = prepared.split("valid")[0].bytes_per_token() * math.log(2)
    first, *_ = (found[text] for found in nats.values())

    def bits(rows: np.ndarray) -> float:
        return float(rows[:, 0].sum() / rows[:, 1].sum() / each)

    def change(ours: np.ndarray, theirs: np.ndarray) -> float:
        return 100 * (bits(ours) / bits(theirs) - 1)

    found = []
    for name, of_run in nats.items():
        level = statistics.estimate(of_run[text], statistic=bits)
        moved = statistics.estimate(of_run[text], first, statistic=change)
        found.append(
            {
                "run": name,
                "bits_per_byte": level._asdict(),
                "change_percent": moved._asdict(),
            }
        )
    return found


def _show(results: dict[str, Any]) -> None:
    for text, rows in results["gain"].items():
        print(f"{text}: held-out bits a byte, and the change against the first run")
        for row in rows:
            level, moved = row["bits_per_byte"], row["change_percent"]
            print(
                f"  {level['value']:.4f} ({level['low']:.4f} to {level['high']:.4f})"
                f"  {moved['value']:+7.2f} % ({moved['low']:+.2f} to"
                f" {moved['high']:+.2f})  {row['run']}"
            )
    print(flush=True)
