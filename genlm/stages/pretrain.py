"""PRETRAIN: prepared tokens -> a model that predicts the next one."""

import collections
import dataclasses
import itertools
from pathlib import Path
from typing import Any, Callable, Iterator

import jax
from ml_collections import ConfigDict

from genlm import config as configs
from genlm import tokenizer as tokenizers
from genlm.data import batches
from genlm.data import rows
from genlm.data import shards
from genlm.errors import UserError
from genlm.evaluate import perplexity
from genlm.inference import decode
from genlm.inference.sampling import SamplingConfig
from genlm.interop import run as interop
from genlm.model import transformer
from genlm.model.transformer import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding
from genlm.parallel import specs
from genlm.runs import checkpoint
from genlm.runs import directory
from genlm.runs import lineage
from genlm.runs import metrics
from genlm.stages import prepare
from genlm.stages import rerun
from genlm.tokenizer.base import Tokenizer
from genlm.train import loop
from genlm.train import losses
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train import step


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How many rows a step, and how many steps."""

    num_steps: int
    batch_size: int  # rows, over all devices
    num_microbatches: int  # gradients are added up over as many parts of a batch
    vocab_chunk: int  # 0: all logits at once
    log_every: int

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "num_microbatches", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is not positive")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What is measured and written on the way; intervals in steps, 0 for never."""

    eval_every: int
    batch_size: int
    sample_every: int
    prompts: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and which to keep."""

    save_every: int
    keep_last: int
    keep_best: bool

    def __post_init__(self) -> None:
        if self.save_every < 1 or self.keep_last < 1:
            raise UserError("checkpoint.save_every and keep_last are at least 1")


class Prepared:
    """A finished prepare run, opened."""

    def __init__(self, path: Path):
        if not lineage.read(path).get("outputs"):
            raise UserError(f"data.prepared: {path} is not a finished prepare run")
        self.folder = path / prepare.TOKENS
        self.tokenizer: Tokenizer = tokenizers.load(self.folder / "tokenizer")
        self.summary = directory.read_json(self.folder / "summary.json")
        self.inputs = {
            str(path): {"sha256": lineage.digest(lineage.read(path)["outputs"])}
        }

    def split(self, name: str) -> tuple[shards.Tokens, rows.Rows]:
        return shards.Tokens(self.folder / name), rows.load(self.folder / name)


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    # every section is read before any work is done
    train = configs.to_dataclass(TrainConfig, config.train)
    evaluation = configs.to_dataclass(EvalConfig, config.eval)
    saving = configs.to_dataclass(CheckpointConfig, config.checkpoint)
    optimizing = configs.to_dataclass(optimizers.OptimizerConfig, config.optimizer)
    mesh_config = configs.to_dataclass(meshes.MeshConfig, config.parallel)
    configs.to_dataclass(TransformerConfig, config.model, vocab_size=1, max_length=1)

    directory.create(workdir)
    hosts.setup()
    mesh = meshes.make(mesh_config)
    _check_batches(train, evaluation, mesh)
    if config.data.prepared:
        prepared = Prepared(Path(config.data.prepared))
    else:
        prepare.run(config, workdir / "data")
        prepared = Prepared(workdir / "data")
    start = checkpoint.newest(workdir)
    finished = rerun.is_finished(config, workdir, prepared.inputs)
    if finished and start is not None and start >= train.num_steps:
        print(f"{workdir}: finished at step {start}", flush=True)
        return
    tokenizer = prepared.tokenizer
    model = configs.to_dataclass(
        TransformerConfig,
        config.model,
        vocab_size=tokenizer.vocab_size,
        max_length=prepared.summary["row_length"],
    )
    rerun.save_config(config, workdir)
    lineage.write(workdir, prepared.inputs, {})
    interop.save_model(workdir, model, tokenizer)

    with jax.set_mesh(mesh):
        _train(
            workdir,
            prepared,
            model,
            train,
            evaluation,
            saving,
            optimizing,
            mesh,
            config.seed,
            start,
        )
    last = checkpoint.steps(workdir)[-1]
    outputs = ["model.json", "tokenizer", "metrics.jsonl", "samples.jsonl"]
    manifests = checkpoint.root(workdir).glob(f"{last}.*.json")
    outputs += [str(p.relative_to(workdir)) for p in sorted(manifests)]
    lineage.write(workdir, prepared.inputs, lineage.of_outputs(workdir, outputs))


def _train(
    workdir, prepared, model, train, evaluation, saving, optimizing, mesh, seed, start
) -> None:
    """Put the parts together and hand them to the loop."""
    tokenizer = prepared.tokenizer
    pad = tokenizer.special.pad
    tokens, row_index = prepared.split("train")
    processes = {"process": jax.process_index(), "num_processes": jax.process_count()}
    data = batches.TrainBatches(
        tokens,
        row_index,
        batch_size=train.batch_size,
        seed=seed,
        pad=pad,
        **processes,
    )
    loss = losses.make_next_token_loss(model, train.vocab_chunk)
    schedule = optimizers.make_schedule(optimizing, train.num_steps)
    optimizer = optimizers.make_optimizer(optimizing, train.num_steps)
    param_specs = transformer.param_specs(model)
    placed = states.shardings(param_specs, optimizer, mesh)
    whole = sharding.replicated(mesh)
    train_step = jax.jit(
        step.make_train_step(
            loss, optimizer, schedule, num_microbatches=train.num_microbatches
        ),
        donate_argnums=0,
        out_shardings=(placed, whole),
    )
    if start is None:
        state = states.born_sharded(param_specs, optimizer, mesh, seed)
        print(f"{specs.count(param_specs):,} parameters, from step 0", flush=True)
    else:
        abstract = loop.split(states.abstract(param_specs, optimizer, mesh))
        state = loop.join(checkpoint.restore(workdir, start, abstract))
        print(f"{workdir}: goes on from step {start}", flush=True)

    first = start or 0
    log = metrics.Log(workdir / "metrics.jsonl", first)
    samples = metrics.Log(workdir / "samples.jsonl", first)
    validate = make_validation(
        prepared, model, evaluation.batch_size, mesh, train.vocab_chunk
    )
    hooks = (
        loop.Hook(evaluation.eval_every, validate, log),
        loop.Hook(
            evaluation.sample_every,
            lambda params: {
                "samples": write(params, model, tokenizer, evaluation, seed)
            },
            samples,
        ),
    )
    with checkpoint.Checkpoints(
        workdir,
        start_step=first,
        keep_last=saving.keep_last,
        keep_best=saving.keep_best,
    ) as checkpoints:
        loop.train(
            state,
            train_step,
            _on_devices(data.since(first), mesh),
            loop.LoopConfig(train.num_steps, train.log_every, saving.save_every),
            log=log,
            checkpoints=checkpoints,
            hooks=hooks,
            bytes_per_token=tokens.bytes_per_token(),
        )


def make_validation(
    prepared: Prepared,
    model: TransformerConfig,
    batch_size: int,
    mesh: Any,
    vocab_chunk: int = 0,
) -> Callable[[Any], dict[str, float]]:
    """A function of params that scores the whole held-out split."""
    tokens, row_index = prepared.split("valid")
    loss = losses.make_next_token_loss(
        dataclasses.replace(model, dropout=0.0), vocab_chunk
    )

    def read() -> Iterator[Any]:
        rows_ = batches.valid_batches(
            tokens,
            row_index,
            batch_size=batch_size,
            pad=prepared.tokenizer.special.pad,
            process=jax.process_index(),
            num_processes=jax.process_count(),
        )
        return _on_devices(rows_, mesh)

    return perplexity.make_validate(loss, read, tokens.bytes_per_token())


def write(
    params: Any,
    model: TransformerConfig,
    tokenizer: Tokenizer,
    evaluation: EvalConfig,
    seed: int,
) -> list[dict[str, str]]:
    """What the model writes after each of the prompts."""
    bos, stop = tokenizer.special.bos, tokenizer.special.stop
    answers = decode.generate(
        params,
        model,
        [[bos, *tokenizer.encode(p.encode())] for p in evaluation.prompts],
        max_tokens=evaluation.max_tokens,
        stop_ids=(stop,),
        pad=tokenizer.special.pad,
        sampling=SamplingConfig(evaluation.temperature, top_p=evaluation.top_p),
        seed=seed,
    )
    return [
        {
            "prompt": prompt,
            "text": tokenizer.decode(answer.tokens).decode("utf-8", "replace"),
            "stop_reason": answer.stop_reason,
        }
        for prompt, answer in zip(evaluation.prompts, answers)
    ]


def _on_devices(host_batches: Iterator[batches.Batch], mesh: Any) -> Iterator[Any]:
    """Batches on the devices, two ahead of their use."""
    moved = (sharding.global_batch(b, mesh) for b in host_batches)
    ahead = collections.deque(itertools.islice(moved, 2))
    while ahead:
        yield ahead.popleft()
        ahead.extend(itertools.islice(moved, 1))


def _check_batches(train: TrainConfig, evaluation: EvalConfig, mesh: Any) -> None:
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    for name, size in (
        ("train.batch_size / train.num_microbatches", train.batch_size),
        ("eval.batch_size", evaluation.batch_size),
    ):
        parts = train.num_microbatches if name.startswith("train") else 1
        if size % (parts * ways):
            raise UserError(
                f"{name}: {size} rows do not divide into {parts} x {ways} devices"
            )
