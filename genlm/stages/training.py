"""TRAINING: what every stage that trains has in common, from a folder to a run.

Before: a stage, which says what is trained on what (a Task). After: the loop, and a run
directory (runs.directory) that the next stage opens. A training goes on from its newest
checkpoint; after a spike it goes back to it.
"""

import contextlib
from pathlib import Path
import shutil
from typing import Any, Callable, NamedTuple

import jax
from ml_collections import ConfigDict

from genlm.data.ahead import Ahead
from genlm.data.plan import Plan
from genlm.errors import UserError
from genlm.parallel import hosts
from genlm.parallel import mesh as meshes
from genlm.parallel import sharding, specs
from genlm.parallel.chips import OPTIONS
from genlm.runs import checkpoint, directory, lineage, metrics, remote, sinks
from genlm.runs.copier import Copier
from genlm.runs.saving import Checkpoints
from genlm.stages import hooks, rerun
from genlm.stages.recipe import Recipe
from genlm.train import loop
from genlm.train import optimizer as optimizers
from genlm.train import state as states
from genlm.train import step
from genlm.train.guard import Rewind
from genlm.train.losses import Loss
from genlm.train.state import TrainState
from genlm.train.step import TrainStep

_LEFT = "left_out"  # (first, last) batch that a rewind leaves out
# batches(plan) gives what has since(step), an iterator of this process's batches
Reader = Callable[[Plan], Any]
Look = Callable[[Any, int], dict[str, Any]]  # of params and step: a row


class Parts(NamedTuple):
    """What is compiled once, however often training begins again."""

    specs: specs.Specs
    optimizer: Any
    train_step: Any
    ema: bool
    kept: states.Kept


class Measure(NamedTuple):
    """Every so many steps a row for a log of the run."""

    every: int
    look: Look
    log: str = "metrics"


class Task(NamedTuple):
    """What is trained, on what, and what is measured on the way.

    adopt: the first state with parameters that are not drawn.
    frozen: arrays that are read and not trained.
    save: writes what opens the run, beside its checkpoints; finish: what is made of
      the last one.
    made: what the stage itself writes into the run, besides the usual.
    experience: makes the batch that is trained on of one that was read.
    """

    parts: Parts
    batches: Reader
    measures: tuple[Measure, ...]
    bytes_per_token: float
    save: Callable[[Path], None]
    finish: Callable[[Path], None] = lambda workdir: None
    adopt: Callable[[TrainState], TrainState] = lambda state: state
    frozen: Any = None
    probe: Callable[[TrainState, Any], dict[str, Any]] | None = None
    made: tuple[str, ...] = ()
    experience: loop.Experience | None = None


def run(
    config: ConfigDict,
    workdir: Path,
    recipe: Recipe,
    inputs: dict[str, Any],
    make_task: Callable[[jax.sharding.Mesh], Task],
) -> bool:
    """Train in `workdir`, from its newest checkpoint if it has one.

    Args:
      inputs: lineage entries of what is read.
      make_task: called once there is work to do, with the mesh laid out.

    Returns whether anything was left to do.
    """
    copy_to = recipe.saving.copy_to
    if copy_to and Path(copy_to).resolve() == workdir.resolve():
        raise UserError(f"checkpoint.copy_to is {workdir} itself")
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
        return False
    hosts.setup()
    mesh = meshes.make(recipe.mesh)
    with sharding.laid_out(mesh, recipe.mesh.rules):
        task = make_task(mesh)
        state = _state(workdir, task, mesh, recipe.seed, start)
        hosts.meet("what was there has opened")
        if hosts.is_first():
            rerun.save_config(config, workdir)
            lineage.write(workdir, inputs, {})
            task.save(workdir)
        notes = _notes(workdir)
        hosts.meet("the first's journal is copied, before it goes on")
        journal = metrics.Log(notes / "events.jsonl", None, recipe.guard.disk_seconds)
        _train(_Run(workdir, notes, recipe, mesh, task, journal), state)
    hosts.meet("the last checkpoint is written")
    if hosts.is_first():
        task.finish(workdir)
        lineage.write(workdir, inputs, outputs(workdir, task.made))
    if copy_to:
        remote.push_missing(workdir, copy_to)
    return True


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


def make_parts(
    param_specs: specs.Specs,
    loss: Loss,
    recipe: Recipe,
    mesh: jax.sharding.Mesh,
    width_ratio: float = 1.0,
    treat: Callable[[TrainStep], TrainStep] = lambda train_step: train_step,
    kept: states.Kept = states.NOTHING,
) -> Parts:
    """The compiled step of a recipe for parameters of `param_specs`.

    Args:
      treat: makes the step that is compiled of a plain one.
      kept: see train.state.
    """
    train, optimizing = recipe.train, recipe.optimizing
    optimizer = optimizers.make_optimizer(
        optimizing, train.num_steps, param_specs, width_ratio=width_ratio
    )
    ema = train.ema_decay > 0
    train_step = jax.jit(
        treat(
            step.make_train_step(
                loss,
                optimizer,
                optimizers.make_schedule(optimizing, train.num_steps),
                num_microbatches=train.num_microbatches,
                ema_decay=train.ema_decay,
                skip_nonfinite=recipe.guard.max_nonfinite > 0,
                trained=optimizers.trained(optimizing, param_specs),
            )
        ),
        donate_argnums=0,
        compiler_options=OPTIONS if sharding.platform() == "tpu" else None,
        out_shardings=(
            states.shardings(param_specs, optimizer, mesh, ema, kept),
            sharding.replicated(mesh),
        ),
    )
    return Parts(param_specs, optimizer, train_step, ema, kept)


class _Run(NamedTuple):
    """What stays, however often training begins again."""

    workdir: Path
    notes: Path  # of this process
    recipe: Recipe
    mesh: jax.sharding.Mesh
    task: Task
    journal: metrics.Log

    def note(self, step: int, event: str, why: str) -> None:
        """Write what happened into the journal."""
        self.journal.write({"step": step, "event": event, "why": why})


def _train(run: _Run, state: TrainState) -> None:
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
        state = _state(run.workdir, run.task, run.mesh, run.recipe.seed, start)


def _leave_out(run: _Run, plan: Plan, rewind: Rewind, start: int) -> None:
    """Write into the journal which batches are left out from now on."""
    spiked = rewind.step - 1  # steps count from 1, batches from 0
    first = max(spiked - 1, start)
    last = first + run.recipe.guard.rewind_skips - 1
    left_out = [plan.number(first), plan.number(last)]
    row = {"step": rewind.step, "event": "rewind", _LEFT: left_out}
    run.journal.write({**row, "why": f"back to step {start}"})
    run.journal.sync()  # the rows to come depend on it


def _attempt(run: _Run, plan: Plan, state: TrainState) -> None:
    """Put the parts together and hand them to the loop."""
    workdir, notes, recipe, mesh, task, journal = run
    train, saving = recipe.train, recipe.saving
    guard, first = recipe.guard, int(state.step)

    with contextlib.ExitStack() as stack:
        watching = stack.enter_context(
            sinks.opened(train.watch, notes, first, guard.disk_seconds)
        )

        def open_log(name: str) -> metrics.Log:
            path = notes / f"{name}.jsonl"
            log = metrics.Log(path, first, guard.disk_seconds, watching)
            return stack.enter_context(contextlib.closing(log))

        names = dict.fromkeys(["metrics", *(each.log for each in task.measures)])
        logs = {name: open_log(name) for name in names}
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
            task.batches(plan).since,
            first,
            guard.stall_seconds,
            lambda step: run.note(step, "stall", "no batch came; reading it again"),
        )
        stack.callback(checkpoints.collect)  # what the copier held
        stack.enter_context(copier)
        stack.enter_context(checkpoints)
        stack.enter_context(read_ahead)
        probe = task.probe and loop.Probe(
            train.probe_every, task.probe, open_log("health")
        )
        loop.train(
            state,
            task.parts.train_step,
            hooks.on_devices(read_ahead, mesh),
            loop.LoopConfig(
                train.num_steps,
                train.log_every,
                saving.save_every,
                guard,
                guard.max_rewinds - len(plan.left_out),
                train.profile_steps,
            ),
            log=logs["metrics"],
            journal=journal,
            checkpoints=checkpoints,
            hooks=tuple(
                loop.Hook(each.every, each.look, logs[each.log])
                for each in task.measures
            ),
            probe=probe,
            experience=task.experience,
            frozen=task.frozen,
            bytes_per_token=task.bytes_per_token,
            tokens=checkpoint.tokens(workdir, first) if first else 0,
        )


def _state(
    workdir: Path, task: Task, mesh: jax.sharding.Mesh, seed: int, start: int | None
) -> TrainState:
    """A state at the beginning, or that of checkpoint `start`, on any mesh."""
    parts = task.parts
    where = f"from step {start or 0} on {mesh.size} {jax.default_backend()} device(s)"
    size = f"{specs.count(parts.specs):,} parameters"
    print(f"{size}, {where}", flush=True)
    of_state = (parts.ema, parts.kept)
    abstract = states.abstract(parts.specs, parts.optimizer, mesh, *of_state)
    hosts.require_memory(
        abstract,
        f"{size} and their optimizer",
        "take a smaller model, or more devices on parallel.fsdp",
    )
    if start is None:
        return task.adopt(
            states.born_sharded(parts.specs, parts.optimizer, mesh, seed, *of_state)
        )
    return loop.join(checkpoint.restore(workdir, start, loop.split(abstract)))


def outputs(workdir: Path, made: tuple[str, ...] = ()) -> dict[str, str]:
    """Hashes of what the run made; checkpoints by their manifests."""
    last = checkpoint.steps(workdir)[-1]
    manifests = sorted(checkpoint.root(workdir).glob(f"{last}.*.json"))
    names = ["model.json", "tokenizer", "metrics.jsonl", "samples.jsonl"]
    names += ["health.jsonl", "exports", *made]
    names = [name for name in names if (workdir / name).exists()]
    names += [str(p.relative_to(workdir)) for p in manifests]
    return lineage.of_outputs(workdir, names)
