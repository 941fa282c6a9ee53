"""A SAFETENSORS FILE: its header checked before anything is read, its tensors read and
written one at a time.

Eight bytes say how long the header is, a JSON object that says of each tensor its type,
its shape and where its bytes are; then come the bytes, without holes.
https://github.com/huggingface/safetensors#format
"""

import json
import math
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple

import ml_dtypes
import numpy as np

from genlm.errors import UserError
from genlm.interop import json_object
from genlm.interop.json_object import shown

HEADER_LIMIT = 100_000_000  # bytes, as in the library
_MAX_DIMS, _MAX_NUMBERS = 8, 2**60
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_FLOATS: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": _BFLOAT16,
}
_OTHERS = {"BOOL": 1, "I8": 1, "U8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4}
_SIZES = {"I64": 8, "U64": 8, **_OTHERS} | {n: t.itemsize for n, t in _FLOATS.items()}
WRITTEN = {
    "float32": ("F32", np.dtype("<f4")),
    "bfloat16": ("BF16", _BFLOAT16),
    "float16": ("F16", np.dtype("<f2")),
}
METADATA = {"format": "pt", "writer": "genlm"}  # transformers wants the first


class Entry(NamedTuple):
    """A tensor of a file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int  # byte of the file
    end: int


class Header(NamedTuple):
    tensors: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """What a file holds.

    Raises:
      UserError: it cannot be read, or its header is not as the format says.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > size - 8:
                raise UserError(f"{path} is damaged: its header ends beyond the file")
            if length > HEADER_LIMIT:
                raise UserError(f"{path} is damaged: a header of {length:,} bytes")
            data = file.read(length)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    found = json_object.parse(data, f"the header of {path}", size)
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise UserError(f"{path} is damaged: its __metadata__ is no table of strings")
    first = 8 + length
    tensors = {n: _entry(path, n, about, first, size) for n, about in found.items()}
    _require_no_holes(path, tensors, first, size)
    return Header(tensors, metadata)


def _entry(path: Path, name: str, about: Any, first: int, size: int) -> Entry:
    """The checked entry of one tensor; the bytes of all begin at `first`."""
    where = f"{path}: the tensor {shown(name)}"
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(about, dict) or set(about) != keys:
        raise UserError(f"{where} has not the keys dtype, shape and data_offsets")
    dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise UserError(
            f"{where} is of type {shown(dtype)}; weights are {', '.join(_FLOATS)}"
        )
    is_shape = _is_counts(shape) and len(shape) <= _MAX_DIMS
    if not is_shape or math.prod(x or 1 for x in shape) >= _MAX_NUMBERS:
        raise UserError(f"{where} has the shape {shown(shape)}")
    if not _is_counts(offsets) or len(offsets) != 2:
        raise UserError(f"{where} has the data_offsets {shown(offsets)}")
    begin, end = first + offsets[0], first + offsets[1]
    if not begin <= end <= size:
        raise UserError(f"{where} ends beyond the file: {shown(offsets)}")
    if math.prod(shape) * _SIZES[dtype] != end - begin:
        raise UserError(
            f"{where} has {end - begin:,} bytes, which its shape {shown(shape)} of"
            f" {dtype} does not fill"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)


def _require_no_holes(
    path: Path, tensors: dict[str, Entry], first: int, size: int
) -> None:
    """Make sure that the bytes of the tensors stand one after the other, to the end."""
    end = first
    for name in sorted(tensors, key=lambda n: (tensors[n].begin, tensors[n].end)):
        if tensors[name].begin != end:
            what = "overlaps another" if tensors[name].begin < end else "leaves a hole"
            raise UserError(f"{path} is damaged: the tensor {shown(name)} {what}")
        end = tensors[name].end
    if end != size:
        raise UserError(f"{path} is damaged: {size - end:,} bytes are of no tensor")


def read(path: Path, name: str, entry: Entry) -> np.ndarray:
    """A tensor of the file: float32, in its own memory.

    Raises:
      UserError: it holds no floating-point numbers, or the file is no longer whole.
    """
    if entry.dtype not in _FLOATS:
        raise UserError(f"{path}: the tensor {shown(name)} is of type {entry.dtype}")
    dtype = _FLOATS[entry.dtype]
    count = math.prod(entry.shape)
    # a slice of a memory map would count as this process's memory until it is closed
    raw = np.dtype("<u2") if dtype == _BFLOAT16 else dtype
    try:
        data = np.fromfile(path, raw, count, offset=entry.begin)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(data) < count:
        raise UserError(f"{path} ends within the tensor {shown(name)}")
    return data.view(dtype).astype(np.float32, copy=False).reshape(entry.shape)


def write(
    path: Path,
    tensors: Iterable[tuple[str, np.ndarray]],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
) -> None:
    """Write `tensors`, which come in the order of `shapes`, as they come.

    Args:
      dtype: one of WRITTEN.

    Raises:
      UserError: a number is too large for `dtype`.
      OSError: they cannot be written.
    """
    name_of_type, kind = WRITTEN[dtype]
    entries: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * kind.itemsize
        entries[name] = {
            "dtype": name_of_type,
            "shape": shape,
            "data_offsets": [begin, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the bytes are aligned
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        written = []
        for name, tensor in tensors:
            assert tensor.shape == tuple(shapes[name]), (name, tensor.shape)
            _cast(name, tensor, kind).tofile(file)
            written.append(name)
    assert written == list(shapes), "other tensors than announced"


def _cast(name: str, tensor: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The bytes of a tensor in the type that is written."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(tensor, kind)
    if kind.itemsize < 4 and not np.array_equal(np.isfinite(cast), np.isfinite(tensor)):
        raise UserError(f"{name} has numbers too large for {kind.name}: use float32")
    return cast.view(np.uint8)
