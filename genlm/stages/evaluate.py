"""EVALUATE: a run beside what any model must beat, on tasks, and what it writes.

Writes results.json: bits a byte of the held-out text for the model and for each
baseline, all on the same bytes; what it does on tasks; and samples. rows.jsonl holds
the tasks' rows one by one, so that two stages of a life can be compared on each.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
import numpy as np

from genlm import config as configs
from genlm.errors import UserError
from genlm.evaluate import baselines
from genlm.interop.run import Opened, find, is_choice, open_run
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.runs import directory, lineage
from genlm.runs.progress import track
from genlm.stages import beginning, measuring, rerun
from genlm.stages.hooks import EvalConfig, make_validation, make_writer
from genlm.stages.measuring import TasksConfig
from genlm.stages.prepare import Prepared

_LONGEST = 64 << 20  # bytes: xz looks no further back, and n-grams need 40 a token
READS = ("seed", "source", "checkpoint", "order", "data.prepared", "eval", "tasks")


class Asked(NamedTuple):
    """What is written and measured, and on which tasks."""

    evaluation: EvalConfig
    tasks: TasksConfig


def read(config: ConfigDict) -> Asked:
    """What this stage reads of a config, checked."""
    if type(config.order) is not int or config.order < 0:
        raise UserError(f"order {config.order!r} is no number from 0 up")
    if not is_choice(str(config.checkpoint)):
        raise UserError(
            f"checkpoint {config.checkpoint!r} is not 'last', 'best', a step or"
            " 'mean:K'"
        )
    asked = Asked(
        configs.to_dataclass(EvalConfig, config.eval),
        configs.to_dataclass(TasksConfig, config.tasks),
    )
    if not config.data.prepared and not asked.tasks.names:
        raise UserError("data.prepared and tasks.names are empty: nothing to measure")
    return asked


def run(config: ConfigDict, workdir: Path) -> None:
    """Measure the run `config.source`; write workdir/results.json and rows.jsonl."""
    asked = read(config)
    source = find(Path(config.source))
    prepared = Prepared(Path(config.data.prepared)) if config.data.prepared else None
    questions = asked.tasks.questions()
    inputs = {
        str(source): {"sha256": lineage.digest(lineage.read(source).get("outputs"))},
        **(prepared.inputs if prepared else {}),
        **asked.tasks.inputs(),
    }
    is_done = rerun.is_finished(config, workdir, inputs, renew=True)
    if is_done and lineage.read(source).get("outputs"):  # else it may have gone on
        _show(directory.read_json(workdir / "results.json"), asked.evaluation.chat)
        return
    hosts.setup()
    directory.create(workdir)
    opened = open_run(source, str(config.checkpoint))
    write = make_writer(opened.config, opened.tokenizer, asked.evaluation, config.seed)
    results: dict[str, Any] = {}
    if prepared:
        read_with = beginning.tokenizer_of_text(source, prepared)
        beginning.check_tokenizers(read_with, prepared.folder / "tokenizer")
        _note_other_data(source, prepared)
        bits = _held_out(opened, prepared, asked.evaluation)
        others = _baselines(prepared, config.order) if config.order else {}
        results["bits_per_byte"] = bits | others
    found = measuring.measure(opened, source, questions)
    results |= {"tasks": found.tasks} if questions else {}
    results |= write(opened.params)
    rerun.save_config(config, workdir)
    files = ["results.json"]
    if questions:
        measuring.write_rows(workdir / "rows.jsonl", found.rows)
        files.append("rows.jsonl")
    directory.write_json(workdir / "results.json", results)
    lineage.write(workdir, inputs, lineage.of_outputs(workdir, files))
    _show(results, asked.evaluation.chat)


def _held_out(
    opened: Opened, prepared: Prepared, evaluation: EvalConfig
) -> dict[str, float]:
    """Bits a byte of the held-out text, by the model's name."""
    mesh = meshes.make(meshes.MeshConfig())
    with sharding.laid_out(mesh):
        evaluation.check_division(sharding.ways(mesh, "batch"))
        validate = make_validation(prepared, opened.config, evaluation.batch_size, mesh)
        bits = validate(opened.params)["valid_bits_per_byte"]
    return {f"this model, step {opened.step}": bits}


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


def _show(results: dict[str, Any], chat: bool) -> None:
    if "bits_per_byte" in results:
        print("held-out bits a byte (lower is better):")
        rows = sorted(results["bits_per_byte"].items(), key=lambda row: row[1])
        for name, bits in rows:
            print(f"  {bits:.3f}  {name}")
    for name, found in results["tasks"].items() if "tasks" in results else ():
        for metric, value in found["metrics"].items():
            print(
                f"  {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
                f"  {name}, {metric} of {found['n']:,} rows"
            )
    for sample in results["samples"]:
        said, text = sample["prompt"], sample["text"]
        whole = f"is answered:\n{text}" if chat else f"goes on:\n{said}{text}"
        print(f"\n--- {said!r} {whole}")
    print(flush=True)
