"""PRETRAIN: prepared tokens -> a model that predicts the next one.

Before: prepare (run first, in workdir/data, where config.data.prepared names none).
After: evaluate, generate, fine-tuning. The run directory is described in
runs.directory.
"""

import contextlib
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from genlm.data import batches
from genlm.data.ahead import Ahead
from genlm.data.plan import Plan
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding, specs
from genlm.parallel.chips import OPTIONS
from genlm.runs import checkpoint, directory, lineage, metrics, remote, sinks
from genlm.runs.copier import Copier
from genlm.runs.saving import Checkpoints
from genlm.stages import beginning, hooks, prepare
from genlm.stages import recipe as recipes
from genlm.stages import rerun
from genlm.stages.beginning import Beginning
from genlm.stages.prepare import Prepared
from genlm.stages.recipe import Recipe
from genlm.train import loop, losses
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train import step
from genlm.train.guard import Rewind
from genlm.train.health import make_probe
from genlm.train.state import TrainState

READS, read = recipes.READS, recipes.read


def run(config: ConfigDict, workdir: Path) -> None:
    """Train in `workdir`, from its newest checkpoint if it has one."""
    recipe = read(config)
    copy_to = recipe.saving.copy_to
    if copy_to and Path(copy_to).resolve() == workdir.resolve():
        raise UserError(f"checkpoint.copy_to is {workdir} itself")
    if hosts.are_several():
        recipes.check_several(recipe)
        hosts.setup()
    if not config.data.prepared and hosts.is_first():
        prepare.run(config, workdir / "data")
    hosts.meet("the data is prepared")
    prepared = Prepared(Path(config.data.prepared or workdir / "data"))
    begin = beginning.of(config, prepared)
    inputs = {**prepared.inputs, **begin.inputs}
    directory.create(workdir)
    if copy_to:
        rerun.is_finished(config, workdir, inputs)  # or it is another's
        rerun.check_copy(config, copy_to, remote.config(copy_to))
        remote.pull(workdir, copy_to)
    finished = rerun.is_finished(config, workdir, inputs)
    start = _newest(workdir)
    if finished and start is not None and start >= recipe.train.num_steps:
        print(f"{workdir}: finished at step {start}", flush=True)
        if copy_to:
            remote.push_missing(workdir, copy_to)
        return
    hosts.setup()
    mesh = meshes.make(recipe.mesh)
    model = begin.model
    with sharding.laid_out(mesh, recipe.mesh.rules):
        recipes.check_division(recipe, model, prepared.summary["row_length"], mesh)
        parts = make_parts(model, recipe, mesh)
        state = _state(workdir, parts, mesh, recipe.seed, start, begin)
        hosts.meet("what was there has opened")
        if hosts.is_first():
            rerun.save_config(config, workdir)
            lineage.write(workdir, inputs, {})
            interop.save_model(workdir, model, prepared.tokenizer)
        notes = _notes(workdir)
        looks = _make_looks(workdir, prepared, model, recipe, parts, mesh)
        journal = metrics.Log(notes / "events.jsonl", None, recipe.guard.disk_seconds)
        _train(
            _Run(workdir, notes, prepared, recipe, mesh, parts, looks, journal, begin),
            state,
        )
    hosts.meet("the last checkpoint is written")
    if hosts.is_first():
        lineage.write(workdir, inputs, outputs(workdir))
    if copy_to:
        remote.push_missing(workdir, copy_to)


def _notes(workdir: Path) -> Path:
    """Where this process writes what it measures: the run's own folder or, of several
    processes, hosts/<number> in it for all but the first. Which batches are left out,
    all read in the first's."""
    if hosts.is_first():
        return workdir
    notes = workdir / "hosts" / str(jax.process_index())
    directory.create(notes)
    events = notes / "events.jsonl"
    events.unlink(missing_ok=True)
    if (workdir / events.name).exists():
        shutil.copyfile(workdir / events.name, events)
    return notes


def _newest(workdir: Path) -> int | None:
    """The newest whole checkpoint.

    Raises:
      UserError: there are some, and none is whole. Nothing is deleted then.
    """
    step = checkpoint.newest(workdir)
    if step is None and checkpoint.steps(workdir):
        raise UserError(
            f"{workdir}: none of its checkpoints is whole; delete"
            f" {checkpoint.root(workdir)} to begin anew"
        )
    return step


def _train(run: "_Run", state: TrainState) -> None:
    """Train to the end; after a spike, again from the newest checkpoint."""
    run.note(int(state.step), "start", hosts.describe())
    while True:
        rewinds = [r for r in metrics.read(run.notes / "events.jsonl") if _LEFT in r]
        plan = run.recipe.plan(tuple((r[_LEFT][0], r[_LEFT][1]) for r in rewinds))
        try:
            return _attempt(run, plan, state)
        except Rewind as rewind:
            start = _newest(run.workdir)
            _leave_out(run, plan, rewind, start or 0)
        # not before here, since the exception's traceback holds the old state
        state = _state(
            run.workdir, run.parts, run.mesh, run.recipe.seed, start, run.begin
        )


def _leave_out(run: "_Run", plan: Plan, rewind: Rewind, start: int) -> None:
    """Write into the journal which batches are left out from now on."""
    spiked = rewind.step - 1  # steps count from 1, batches from 0
    first = max(spiked - 1, start)
    last = first + run.recipe.guard.rewind_skips - 1
    left_out = [plan.number(first), plan.number(last)]
    row = {"step": rewind.step, "event": "rewind", _LEFT: left_out}
    run.journal.write({**row, "why": f"back to step {start}"})
    run.journal.sync()  # the rows to come depend on it


_LEFT = "left_out"  # (first, last) batch that a rewind leaves out


class Parts(NamedTuple):
    """What is compiled once, however often training begins again."""

    specs: specs.Specs
    optimizer: Any
    train_step: Any
    ema: bool


def make_parts(model: TransformerConfig, recipe: Recipe, mesh: Any) -> Parts:
    train, optimizing = recipe.train, recipe.optimizing
    param_specs = transformer.param_specs(model)
    optimizer = optimizers.make_optimizer(
        optimizing,
        train.num_steps,
        param_specs,
        width_ratio=model.width_ratio,
    )
    ema = train.ema_decay > 0
    train_step = jax.jit(
        step.make_train_step(
            losses.make_next_token_loss(model, train.vocab_chunk, train.shares),
            optimizer,
            optimizers.make_schedule(optimizing, train.num_steps),
            num_microbatches=train.num_microbatches,
            ema_decay=train.ema_decay,
            skip_nonfinite=recipe.guard.max_nonfinite > 0,
            trained=optimizers.trained(optimizing, param_specs),
        ),
        donate_argnums=0,
        compiler_options=OPTIONS if sharding.platform() == "tpu" else None,
        out_shardings=(
            states.shardings(param_specs, optimizer, mesh, ema),
            sharding.replicated(mesh),
        ),
    )
    return Parts(param_specs, optimizer, train_step, ema)


class _Looks(NamedTuple):
    """What is measured and written on the way; compiled once too."""

    validate: Any
    write: Any
    export: Any
    probe: Any


def _make_looks(
    workdir: Path,
    prepared: Prepared,
    model: TransformerConfig,
    recipe: Recipe,
    parts: Parts,
    mesh: Any,
) -> _Looks:
    train, evaluation = recipe.train, recipe.evaluation
    validate = hooks.make_validation(
        prepared,
        model,
        evaluation.batch_size,
        mesh,
        train.vocab_chunk,
        evaluation.max_rows,
    )
    write = hooks.make_writer(model, prepared.tokenizer, evaluation, recipe.seed)
    export = hooks.make_export(
        workdir, model, prepared.tokenizer, recipe.saving.export_every
    )
    look = make_probe(
        model,
        parts.optimizer,
        vocab_chunk=train.vocab_chunk,
        shares=train.shares,
        num_microbatches=train.num_microbatches,
        trained=optimizers.trained(recipe.optimizing, parts.specs),
    )
    return _Looks(validate, write, export, look)


class _Run(NamedTuple):
    """What stays, however often training begins again."""

    workdir: Path
    notes: Path  # of this process
    prepared: Prepared
    recipe: Recipe
    mesh: jax.sharding.Mesh
    parts: Parts
    looks: _Looks
    journal: metrics.Log
    begin: Beginning

    def note(self, step: int, event: str, why: str) -> None:
        """Write what happened into the journal."""
        self.journal.write({"step": step, "event": event, "why": why})


def _attempt(run: _Run, plan: Plan, state: TrainState) -> None:
    """Put the parts together and hand them to the loop."""
    workdir, notes, prepared, recipe, mesh, parts, looks, journal, _ = run
    train, evaluation, saving = recipe.train, recipe.evaluation, recipe.saving
    guard, first = recipe.guard, int(state.step)

    with contextlib.ExitStack() as stack:

        def open_log(name: str, watching: tuple[sinks.Sink, ...] = ()) -> metrics.Log:
            path = notes / f"{name}.jsonl"
            log = metrics.Log(path, first, guard.disk_seconds, watching)
            return stack.enter_context(contextlib.closing(log))

        watching = stack.enter_context(
            sinks.opened(train.watch, notes, first, guard.disk_seconds)
        )
        log, samples = open_log("metrics", watching), open_log("samples", watching)
        copier = Copier(
            workdir,
            saving.copy_to,
            lambda step, why: run.note(step, "copy failed", why),
        )
        checkpoints = Checkpoints(
            workdir,
            start_step=first,
            keep_last=saving.keep_last,
            keep_best=saving.keep_best,
            keep_every=saving.keep_every,
            # of several processes none can go on alone
            patience=0.0 if hosts.are_several() else guard.disk_seconds,
            on_failure=lambda step, why: run.note(step, "save failed", why),
            on_commit=copier.add,
            is_held=copier.holds,
        )
        read_ahead = Ahead(
            reader(prepared, recipe, plan, mesh).since,
            first,
            guard.stall_seconds,
            lambda step: run.note(step, "stall", "no batch came; reading it again"),
        )
        stack.callback(checkpoints.collect)  # what the copier held
        stack.enter_context(copier)
        stack.enter_context(checkpoints)
        stack.enter_context(read_ahead)
        loop.train(
            state,
            parts.train_step,
            hooks.on_devices(read_ahead, mesh),
            loop.LoopConfig(
                train.num_steps,
                train.log_every,
                saving.save_every,
                guard,
                guard.max_rewinds - len(plan.left_out),
                train.profile_steps,
            ),
            log=log,
            journal=journal,
            checkpoints=checkpoints,
            hooks=(
                loop.Hook(
                    evaluation.eval_every, hooks.at_any_step(looks.validate), log
                ),
                loop.Hook(
                    evaluation.sample_every, hooks.at_any_step(looks.write), samples
                ),
                loop.Hook(saving.export_every, looks.export, log),
            ),
            probe=loop.Probe(
                train.probe_every, looks.probe, open_log("health", watching)
            ),
            bytes_per_token=prepared.split("train")[0].bytes_per_token(),
            tokens=checkpoint.tokens(workdir, first) if first else 0,
        )


def _state(
    workdir: Path,
    parts: Parts,
    mesh: jax.sharding.Mesh,
    seed: int,
    start: int | None,
    begin: Beginning,
) -> TrainState:
    """A state at the beginning, or that of checkpoint `start`, on any mesh."""
    where = f"from step {start or 0} on {mesh.size} {jax.default_backend()} device(s)"
    size = f"{specs.count(parts.specs):,} parameters"
    print(f"{size}, {where}", flush=True)
    abstract = states.abstract(parts.specs, parts.optimizer, mesh, parts.ema)
    hosts.require_memory(
        abstract,
        f"{size} and their optimizer",
        "take a smaller model, or more devices on parallel.fsdp",
    )
    if start is None:
        return begin.adopted(
            states.born_sharded(parts.specs, parts.optimizer, mesh, seed, parts.ema)
        )
    return loop.join(checkpoint.restore(workdir, start, loop.split(abstract)))


def reader(
    prepared: Prepared, recipe: Recipe, plan: Plan, mesh: Any
) -> batches.TrainBatches:
    """This process's part of the batches."""
    tokens, rows = prepared.split("train")
    process, num_processes = sharding.rows_of_process(mesh)
    return batches.TrainBatches(
        tokens,
        rows,
        plan,
        seed=recipe.seed,
        pad=prepared.tokenizer.special.pad,
        process=process,
        num_processes=num_processes,
    )


def outputs(workdir: Path) -> dict[str, str]:
    """Hashes of what the run made; checkpoints by their manifests."""
    last = checkpoint.steps(workdir)[-1]
    manifests = sorted(checkpoint.root(workdir).glob(f"{last}.*.json"))
    names = ["model.json", "tokenizer", "metrics.jsonl", "samples.jsonl"]
    names += ["health.jsonl"]
    names += ["exports"] if (workdir / "exports").exists() else []
    names += [str(p.relative_to(workdir)) for p in manifests]
    return lineage.of_outputs(workdir, names)
