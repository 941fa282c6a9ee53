"""SINKS: rows of metrics and samples, as TensorBoard and Weights & Biases want them.

Before: metrics.Log, which hands on each row that it wrote. After: whoever watches. The
JSON lines are the run's own record, and a sink a copy of them: where a run goes on, the
sink is given the last step that was kept again, or all of them if it is new. A sink's
package is loaded when it is opened.
"""

import contextlib
import io
import json
import os
from pathlib import Path
import time
from typing import Any, Callable, Iterator, Mapping, Protocol
import uuid

from genlm.errors import UserError
from genlm.runs import directory, metrics, packages

NAMES = ("tensorboard", "wandb")  # each is its package and its extra too
_FILES = ("metrics.jsonl", "samples.jsonl", "health.jsonl")


class Sink(metrics.Sink, Protocol):
    """Takes rows in the order of their steps; `is_new` if it never had one."""

    is_new: bool

    def close(self) -> None: ...


def require(names: tuple[str, ...]) -> None:
    """Make sure that these sinks can be opened.

    Raises:
      UserError: there is none of that name, or its package is not installed.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(f"train.watch has {name!r}; it takes {', '.join(NAMES)}")
        if not packages.is_installed(name):
            raise UserError(f"train.watch={name} needs it: pip install 'genlm[{name}]'")


@contextlib.contextmanager
def opened(
    names: tuple[str, ...], workdir: Path, start_step: int, patience: float = 0.0
) -> Iterator[tuple[Sink, ...]]:
    """The sinks of a run that goes on from `start_step`; closed after the block.

    Args:
      patience: seconds to try again where a disk takes nothing.

    Raises:
      UserError: one cannot be opened (names it).
    """
    kinds: dict[str, Callable[[Path, int, float], Sink]]
    kinds = {"tensorboard": TensorBoard, "wandb": WandB}
    kept = _kept(workdir, start_step)
    last = kept[-1]["step"] if kept else 0
    with contextlib.ExitStack() as stack:
        sinks = []
        for name in names:
            sink = kinds[name](workdir, last, patience)
            sinks.append(stack.enter_context(contextlib.closing(sink)))
            for row in kept:
                if sink.is_new or row["step"] == last:
                    sink.write(row)
        yield tuple(sinks)


class TensorBoard:
    """Event files in WORKDIR/tensorboard, one each time that the run goes on.

    They are named by their number, as TensorBoard reads them in the order of names.
    """

    def __init__(self, workdir: Path, last_step: int, patience: float):
        from tensorboard.compat.proto import event_pb2

        self._event = event_pb2.Event
        folder = workdir / "tensorboard"
        before = len(list(folder.glob("*tfevents*")))
        self.is_new = before == 0
        directory.create(folder)
        path = folder / f"events.out.tfevents.{before:010d}"
        self._file = directory.Growing(path, patience)
        self._add(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(session_log=start, step=last_step)  # drops what was of it and on

    def write(self, row: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb
        from tensorboard.plugins.text.summary_v2 import text_pb

        summary = Summary()
        for tag, number in scalars(row).items():
            summary.MergeFrom(scalar_pb(tag, number))
        for tag, text in texts(row).items():
            indented = "".join(f"    {line}\n" for line in text.split("\n"))
            summary.MergeFrom(text_pb(tag, indented))  # Markdown, shown as it is
        self._add(summary=summary, step=row["step"])

    def close(self) -> None:
        self._file.close()

    def _add(self, **content: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = self._event(wall_time=time.time(), **content)
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.add(record.getvalue())


class WandB:
    """A run of Weights & Biases, kept in WORKDIR/wandb; WANDB_MODE=offline and its
    other variables hold.

    It takes a step once, when the next one begins: what a run does again after a kill,
    which is the same to the bit, it leaves out.
    """

    def __init__(self, workdir: Path, last_step: int, patience: float):
        del last_step, patience  # it has its own
        import wandb

        path = workdir / "wandb.json"
        self.is_new = not path.exists()
        known = {"id": uuid.uuid4().hex} if self.is_new else directory.read_json(path)
        name = "/".join(workdir.resolve().parts[-2:])
        try:
            self._run = wandb.init(
                dir=workdir,
                id=known["id"],
                resume="allow",
                project=os.environ.get("WANDB_PROJECT", "genlm"),
                name=os.environ.get("WANDB_NAME", name),
                config=directory.read_json(workdir / "config.json"),
                settings=wandb.Settings(console="off", quiet=True),
            )
        except wandb.errors.Error as error:
            said = " ".join(str(error).split())
            raise UserError(f"train.watch=wandb: {said}") from error
        directory.write_json(path, known)

    def write(self, row: Mapping[str, Any]) -> None:
        self._run.log(scalars(row) | texts(row), step=row["step"])

    def close(self) -> None:
        self._run.finish()


def _kept(workdir: Path, start_step: int) -> list[dict[str, Any]]:
    """The rows that a run going on from `start_step` keeps, in the order of steps."""
    rows = [row for name in _FILES for row in metrics.read(workdir / name)]
    return sorted(
        (row for row in rows if row["step"] <= start_step), key=lambda r: r["step"]
    )


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """{group/name: number} of a row; what is held out, and speed, in own groups. What
    health.jsonl says of a layer is in a group of its kind, under the layer's number."""
    scalars: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], float):
            scalars |= {f"{name}/{layer}": x for layer, x in enumerate(value)}
        if name == "step" or not isinstance(value, (int, float)):
            continue
        if "/" in name:
            scalars[name] = value
        elif name.startswith("valid_"):
            scalars[f"valid/{name.removeprefix('valid_')}"] = value
        else:
            scalars[f"{'speed' if name in metrics.TIMES else 'train'}/{name}"] = value
    return scalars


def texts(row: Mapping[str, Any]) -> dict[str, str]:
    """{samples/number: prompt and text} of a row of samples.jsonl."""
    samples = row["samples"] if "samples" in row else []
    return {
        f"samples/{number}": json.dumps(each["prompt"]) + "\n" + each["text"]
        for number, each in enumerate(samples, 1)
    }
