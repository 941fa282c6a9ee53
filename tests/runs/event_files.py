"""What watchers hold, read back as rows of metrics.jsonl: {(step, tag): value}."""

from pathlib import Path
import struct
from typing import Any, Iterator

import numpy as np

from genlm.runs import metrics, sinks

Points = dict[tuple[int, str], Any]


def expected(workdir: Path) -> Points:
    """What a run directory's own files say."""
    rows = [
        row
        for name in ("metrics.jsonl", "samples.jsonl", "health.jsonl")
        for row in metrics.read(workdir / name)
    ]
    return {
        (row["step"], tag): value
        for row in rows
        for tag, value in (sinks.scalars(row) | sinks.texts(row)).items()
    }


def tensorboard(workdir: Path) -> Points:
    """What TensorBoard would show."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import (
        EventAccumulator,
    )
    from tensorboard.util import tensor_util

    events = EventAccumulator(
        str(workdir / "tensorboard"), tensor_size_guidance={"scalars": 0, "text": 0}
    ).Reload()
    points: Points = {}
    for tag in events.Tags()["tensors"]:
        for event in events.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto).item()
            assert (event.step, tag) not in points, "shown twice"
            points[event.step, tag] = (
                value.decode() if isinstance(value, bytes) else value
            )
    return points


def wandb(workdir: Path) -> Points:
    """What offline runs would send; a step is taken once, as the server does."""
    from wandb.proto import wandb_internal_pb2

    points: Points = {}
    for path in sorted(workdir.glob("wandb/offline-run-*/*.wandb")):
        last = max((step for step, _ in points), default=0)
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.history.step.num > last:
                points |= {
                    (record.history.step.num, "/".join(i.nested_key) or i.key): i
                    for i in record.history.item
                }
    return {key: item.value_json for key, item in points.items() if key[1][0] != "_"}


def _records(data: bytes) -> Iterator[bytes]:
    """Records of a log in LevelDB's format, after a header of 7 bytes."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def assert_same(found: Points, wanted: Points) -> None:
    """The same points; numbers as float32."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, str):
            assert found[key] == value, key
        else:
            np.testing.assert_equal(np.float32(found[key]), np.float32(value), key)


def check_tensorboard(workdir: Path) -> None:
    """That TensorBoard would show what the run's own files say; texts are indented,
    since Markdown then shows them letter by letter."""
    wanted = {
        key: (
            "".join(f"    {line}\n" for line in value.split("\n"))
            if isinstance(value, str)
            else value
        )
        for key, value in expected(workdir).items()
    }
    assert_same(tensorboard(workdir), wanted)
