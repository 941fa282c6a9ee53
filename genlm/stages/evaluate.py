"""EVALUATE: a trained run beside what any model must beat, and what it writes.

Writes results.json: bits a byte of the held-out text for the model and for each
baseline, all on the same bytes, and samples.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.errors import UserError
from genlm.evaluate import baselines
from genlm.interop.run import find, is_choice, open_run
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import directory, lineage
from genlm.runs.progress import track
from genlm.stages import rerun
from genlm.stages.beginning import check_tokenizers
from genlm.stages.hooks import EvalConfig, make_validation, make_writer
from genlm.stages.prepare import Prepared

_LONGEST = 64 << 20  # bytes: xz looks no further back, and n-grams need 40 a token
READS = ("seed", "source", "checkpoint", "order", "data.prepared", "eval")


def read(config: ConfigDict) -> EvalConfig:
    """What this stage reads of a config, checked."""
    if type(config.order) is not int or config.order < 1:
        raise UserError(f"order {config.order!r} is not a positive number")
    if not is_choice(str(config.checkpoint)):
        raise UserError(
            f"checkpoint {config.checkpoint!r} is not 'last', 'best', a step or"
            " 'mean:K'"
        )
    return configs.to_dataclass(EvalConfig, config.eval)


def run(config: ConfigDict, workdir: Path) -> None:
    """Measure the run `config.source`; write workdir/results.json."""
    evaluation = read(config)
    source = find(Path(config.source))
    prepared = Prepared(Path(config.data.prepared))
    inputs = {
        str(source): {"sha256": lineage.digest(lineage.read(source).get("outputs"))},
        **prepared.inputs,
    }
    is_done = rerun.is_finished(config, workdir, inputs, renew=True)
    if is_done and lineage.read(source).get("outputs"):  # else it may have gone on
        _show(directory.read_json(workdir / "results.json"))
        return
    hosts.setup()
    directory.create(workdir)
    params, model, tokenizer, step = open_run(source, str(config.checkpoint))
    check_tokenizers(source / "tokenizer", prepared.folder / "tokenizer")
    _note_other_data(source, prepared)
    mesh = meshes.make(meshes.MeshConfig())
    with sharding.laid_out(mesh):
        evaluation.check_division(sharding.ways(mesh, "batch"))
        validate = make_validation(prepared, model, evaluation.batch_size, mesh)
        bits = {f"this model, step {step}": validate(params)["valid_bits_per_byte"]}
    bits |= _baselines(prepared, config.order)
    write = make_writer(model, tokenizer, evaluation, config.seed)
    results = {"bits_per_byte": bits, **write(params)}
    rerun.save_config(config, workdir)
    directory.write_json(workdir / "results.json", results)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, ["results.json"]))
    _show(results)


def _note_other_data(source: Path, prepared: Prepared) -> None:
    """Say so where the model was trained on other data than what is measured."""
    inputs = lineage.read(source).get("inputs", {})
    own = {each["sha256"] for each in inputs.values()}
    if not own >= {each["sha256"] for each in prepared.inputs.values()}:
        print(
            f"note: {source} was trained on other data than {prepared.folder.parent},"
            " and may have seen what is held out there",
            flush=True,
        )


def _baselines(prepared: Prepared, order: int) -> dict[str, float]:
    """Bits a byte of each baseline, trained on the same documents; none for a text
    that is too long for them."""
    if prepared.summary["train"]["bytes"] > _LONGEST:
        print(f"no baselines: they are for texts of {_LONGEST >> 20} MiB at the most")
        return {}
    tokenizer = prepared.tokenizer
    own = {split: _documents(prepared, split) for split in ("train", "valid")}
    text = {s: [tokenizer.decode(d) for d in docs] for s, docs in own.items()}
    num_bytes = sum(map(len, text["valid"]))
    stop = np.asarray([256])
    as_bytes = {
        s: [np.append(np.frombuffer(t, np.uint8), stop) for t in texts]
        for s, texts in text.items()
    }
    ngrams = {"byte": (as_bytes, 257), "token": (own, tokenizer.vocab_size)}
    bits = {"xz given the training text": _xz(text) / num_bytes}
    for name, (documents, vocab_size) in track(
        ngrams.items(), "baselines", 2, "models"
    ):
        model = baselines.KneserNey(documents["train"], vocab_size, order)
        title = f"{name} {order}-gram, Kneser-Ney"
        bits[title] = model.bits(documents["valid"]) / num_bytes
    return bits


def _xz(text: dict[str, list[bytes]]) -> float:
    return baselines.xz_bits(b"\n".join(text["train"]), b"\n".join(text["valid"]))


def _documents(prepared: Prepared, split: str) -> list[np.ndarray]:
    """Ids of every document, without BOS, with STOP."""
    tokens, _ = prepared.split(split)
    before = 0 if prepared.tokenizer.special.bos is None else 1
    return [
        np.asarray(tokens.shards[shard][start + before : start + length], np.int64)
        for shard, start, length in tokens.documents
    ]


def _show(results: dict[str, Any]) -> None:
    print("held-out bits a byte (lower is better):")
    for name, bits in sorted(results["bits_per_byte"].items(), key=lambda kv: kv[1]):
        print(f"  {bits:.3f}  {name}")
    for sample in results["samples"]:
        print(
            f"\n--- {sample['prompt']!r} goes on:\n{sample['prompt']}{sample['text']}"
        )
    print(flush=True)
