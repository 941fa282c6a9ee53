"""HLO COUNTS: what a compiled program does on one device.

Before: `hlo`, which reads its text. After: `plan`. XLA's own cost_analysis counts the
body of a loop once; here it counts as often as it runs.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from genlm.parallel import hlo
from genlm.parallel.hlo import Computation, Instruction

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# kernels of splash attention, and the products of queries and keys in each
KERNELS = {"splash_mha_fwd": 2, "splash_mha_dkv": 4, "splash_mha_dq": 3}
BLOCK = 512  # keys that are masked or seen together
# what moves nothing, or is counted where it begins
_FREE = set(
    "parameter tuple get-tuple-element bitcast constant while conditional call"
    " after-all partition-id replica-id iota opt-barrier domain async-done async-update"
    " copy-done all-gather-done all-reduce-done collective-permute-done send recv"
    " send-done recv-done".split()
)


class Collective(NamedTuple):
    """One kind of message, `times` a run of the program."""

    kind: str
    bytes: int  # of the whole array, as it is before it is split or once it is joined
    groups: tuple[tuple[int, ...], ...]  # devices that pass messages to each other
    times: float
    where: str  # of the program's source it comes from


class Counts(NamedTuple):
    """Of one device."""

    flops: float  # of products
    hbm_bytes: float
    collectives: list[Collective]


def count(text: str, num_devices: int) -> Counts:
    """What `text` (compiled.as_text()) does on one of its devices."""
    computations, entry = hlo.parse(text)
    often_of, inside = hlo.times(computations, entry)
    begun = {
        _channel(i) for c in computations.values() if _begins(c) for i in c.values()
    } - {""}
    flops = hbm = 0.0
    collectives = []
    for name, computation in computations.items():
        if not (often := often_of[name]):
            continue
        begins = _begins(computation)
        for instruction in computation.values():
            flops += often * _flops(instruction, computation)
            if name not in inside:
                hbm += often * _traffic(instruction, computation, computations)
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES and (begins or _channel(instruction) not in begun):
                collectives.append(
                    _collective(kind, instruction, computation, often, num_devices)
                )
    return Counts(flops, hbm, collectives)


def _flops(instruction: Instruction, here: Computation) -> float:
    """Of a product; what is computed a number at a time counts as nothing."""
    if instruction.opcode == "dot":
        left = here[instruction.operands[0]].shape[0].dims
        contracted = _numbers("lhs_contracting_dims", instruction.attributes)
        inner = math.prod(left[d] for d in contracted)
        return 2.0 * math.prod(instruction.shape[0].dims) * inner
    if instruction.opcode == "convolution":
        return _convolution(instruction, here)
    if instruction.opcode == "custom-call":
        return _kernel(instruction, here)
    return 0.0


def _kernel(instruction: Instruction, here: Computation) -> float:
    """Of a kernel of splash attention; XLA does not look into those. Rows are taken to
    be causal and whole: a window makes it less."""
    products = [n for k, n in KERNELS.items() if instruction.name.startswith(k)]
    if not products:
        return 0.0
    arrays = [a for n in instruction.operands for a in here[n].shape]
    floats = [a.dims for a in arrays if a.dtype in ("bf16", "f32")]
    *rows, N, T, H = next(dims for dims in floats if len(dims) > 2)  # the queries
    return products[0] * math.prod(rows) * N * T * H * (T + min(BLOCK, T))


def _numbers(name: str, attributes: str) -> list[int]:
    match = re.search(name + r"=\{([0-9,]*)\}", attributes)
    return [int(n) for n in match[1].split(",") if n] if match else []


def _convolution(instruction: Instruction, here: Computation) -> float:
    """A product that a TPU writes as a convolution, batches as spatial dims."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None, instruction
    left, kernel = (here[name].shape[0].dims for name in instruction.operands[:2])
    out = instruction.shape[0].dims
    windows = _windows(instruction.attributes, sum(map(str.isdigit, labels[1])))
    per_out = kernel[labels[2].index("i")]
    pairs = 1
    for number, window in enumerate(windows):
        digit = str(number)
        pairs *= _pairs(
            left[labels[1].index(digit)],
            kernel[labels[2].index(digit)],
            out[labels[3].index(digit)],
            window,
        )
    groups = re.search(r"batch_group_count=(\d+)", instruction.attributes)
    outer = out[labels[3].index("b")] * out[labels[3].index("f")]
    return 2.0 * outer * per_out * pairs / (1 if groups is None else 1)


class _Window(NamedTuple):
    stride: int
    low: int
    left_dilation: int
    right_dilation: int


def _windows(attributes: str, num: int) -> list[_Window]:
    match = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(f.split("=") for f in match[1].split() if "=" in f) if match else {}

    def of(name: str, default: str) -> list[str]:
        return fields[name].split("x") if name in fields else [default] * num

    return [
        _Window(int(stride), int(pad.split("_")[0]), int(left), int(right))
        for stride, pad, left, right in zip(
            of("stride", "1"),
            of("pad", "0_0"),
            of("lhs_dilate", "1"),
            of("rhs_dilate", "1"),
        )
    ]


def _pairs(size: int, kernel: int, out: int, window: _Window) -> int:
    """How many products of one spatial dim do not meet padding or a gap."""
    outs, kernels = np.arange(out)[:, None], np.arange(kernel)[None]
    at = outs * window.stride + kernels * window.right_dilation - window.low
    real = (at >= 0) & (at <= (size - 1) * window.left_dilation)
    return int(np.sum(real & (at % window.left_dilation == 0)))


def _traffic(
    instruction: Instruction, here: Computation, all_: dict[str, Computation]
) -> float:
    """Bytes that an instruction reads from HBM and writes to it."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0.0
    written = sum(a.bytes for a in instruction.shape if a.is_in_hbm)
    sources = [here[name] for name in instruction.operands if name in here]
    if opcode == "dynamic-slice" or opcode == "slice":
        return written + (sources[0].shape[0].is_in_hbm and instruction.shape[0].bytes)
    if opcode == "dynamic-update-slice":
        return 2.0 * sources[1].bytes
    if opcode.endswith("-start"):  # (from, to, ...): what moves is the smaller
        ends = instruction.shape[:2]
        moved = min(a.bytes for a in ends)
        return float(moved * sum(a.is_in_hbm for a in ends))
    if opcode != "fusion":
        read = sum(a.bytes for s in sources for a in s.shape if a.is_in_hbm)
        return float(read + written)
    body = all_[dict(hlo.CALLEE.findall(instruction.attributes))["calls"]]
    return _fusion(instruction, sources, body)


def _fusion(
    instruction: Instruction, sources: list[Instruction], body: Computation
) -> float:
    """As above; of an operand of which slices are taken, the slices count, and what is
    updated in place counts where it changes."""
    users: dict[str, list[Instruction]] = {name: [] for name in body}
    for each in body.values():
        for name in each.operands:
            users[name].append(each)
    params = {}
    for each in body.values():
        if each.opcode == "parameter":
            params[int(each.attributes or 0)] = each
    total = 0.0
    for number, source in enumerate(sources):
        if source.shape and source.shape[0].is_in_hbm and number in params:
            total += _read(params[number], users)
    root = hlo.root(body)
    roots = [body[n] for n in root.operands] if root.opcode == "tuple" else [root]
    for array, each in zip(instruction.shape, roots):
        while each.opcode in ("bitcast", "copy") and each.operands[0] in body:
            each = body[each.operands[0]]
        if array.is_in_hbm:
            in_place = each.opcode == "dynamic-update-slice"
            total += body[each.operands[1]].bytes if in_place else array.bytes
    return total


def _read(parameter: Instruction, users: dict[str, list[Instruction]]) -> float:
    """Bytes of a fusion's parameter that are read."""
    total = 0.0
    for user in users[parameter.name]:
        is_first = user.operands and user.operands[0] == parameter.name
        if user.opcode in ("dynamic-slice", "slice", "gather") and is_first:
            total += user.bytes
        elif user.opcode == "bitcast":
            total += _read(user, users)
        elif not (user.opcode == "dynamic-update-slice" and is_first):
            return float(parameter.bytes)
    return min(total, float(parameter.bytes))


def _begins(computation: Computation) -> bool:
    """Whether a collective that a TPU spreads over several fusions, each of which names
    it, begins in this one."""
    return any(
        i.opcode == "custom-call" and '"AsyncCollectiveStart' in i.attributes
        for i in computation.values()
    )


def _channel(instruction: Instruction) -> str:
    """The number that all who name one message share; '' of what has none."""
    match = re.search(r"channel_id=(\d+)", instruction.attributes)
    return match[1] if match else ""


def _collective(
    kind: str, instruction: Instruction, here: Computation, often: float, devices: int
) -> Collective:
    attributes = instruction.attributes
    arrays = [a for a in instruction.shape if a.dims] or list(instruction.shape)
    if instruction.opcode.endswith("-start") and kind != "all-reduce":
        arrays = arrays[len(arrays) // 2 :]  # it names what goes in, too
    whole = sum(array.bytes for array in arrays)
    if kind == "all-reduce" and hlo.root(here).opcode == "dynamic-slice":
        kind = "reduce-scatter"  # as a TPU writes it, fused
    elif kind == "reduce-scatter":
        whole = sum(here[n].bytes for n in instruction.operands)
    where = re.search(r'op_name="([^"]*)"', attributes)
    return Collective(
        kind,
        whole,
        _groups(attributes, devices),
        often,
        where[1] if where else "",
    )


_MESH = re.compile(  # "mesh['a'=8,'b'=2], device_ids=([2,8]T(1,0)) {'a'}"
    r"replica_groups=mesh\[(.*?)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    r" *\{(.*?)\}"
)


def _groups(attributes: str, devices: int) -> tuple[tuple[int, ...], ...]:
    """Device numbers of each group, from any way of writing them."""
    if match := re.search(r"source_target_pairs=\{(.*?)\}\}", attributes):
        pairs = re.findall(r"\{?(\d+),(\d+)", match[1])
        return tuple((int(a), int(b)) for a, b in pairs)
    if match := re.search(
        r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes
    ):
        shape = _ints(match[1])
        return tuple(map(tuple, _iota(match[2], match[3]).reshape(shape).tolist()))
    if match := _MESH.search(attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        inside = re.findall(r"'(\w+)'", match[4])
        ids = _iota(match[2] or str(devices), match[3])
        ids = ids.reshape([int(n) for n in sizes.values()])
        moved = [list(sizes).index(name) for name in inside]
        ids = np.moveaxis(ids, moved, range(-len(moved), 0))
        each = math.prod(int(sizes[name]) for name in inside)
        return tuple(map(tuple, ids.reshape(-1, each).tolist()))
    if match := re.search(r"replica_groups=\{\{(.*?)\}\}", attributes):
        return tuple(
            tuple(int(n) for n in group.split(",")) for group in match[1].split("},{")
        )
    return (tuple(range(devices)),)


def _iota(grid: str, order: str | None) -> np.ndarray:
    """Device numbers in a grid, its dims in another order: '2,8' and '1,0'."""
    dims = _ints(grid)
    ids = np.arange(math.prod(dims)).reshape(dims)
    return ids.transpose(_ints(order)) if order else ids


def _ints(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]
