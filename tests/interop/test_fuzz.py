"""FUZZ: mutated headers and configs are opened whole or refused in one line, in memory
of the file's size and 100 MB."""

import collections
import copy
import json
from pathlib import Path
import shutil
import tracemalloc
from typing import Any, Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
import pytest

from genlm.errors import UserError
from genlm.interop import folder, hf_config, json_object, tensor_file, weights
from genlm.model.config import TransformerConfig
from genlm.stages import import_model
from tests.interop.test_families import GOLDEN, NAMES
from tests.interop.test_import import put_together

ROOM = 100_000_000  # bytes
fuzz = settings(
    max_examples=1000, suppress_health_check=[HealthCheck.too_slow], database=None
)
LLAMA = GOLDEN / "llama"
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [0, -1, 2**31, 2**32, 2**63, 2**64, 10**30, 10**400, 1e-400, 1e308]
    ),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["F32", "BF16", "F8_E4M3", "..", "\ud800", "\0", "silu", "yarn"]),
    st.recursive(
        st.integers(0, 2**40),
        lambda x: st.lists(x, max_size=5) | st.dictionaries(st.text(max_size=3), x),
        max_leaves=6,
    ),
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The path of every value below an object or a list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, below in inner:
        found.append((*path, key))
        if isinstance(below, (dict, list)):
            found += places(below, (*path, key))
    return found


@st.composite
def changed_json(draw: Callable, original: Any) -> bytes:
    """A JSON text of which some values are others, or gone, or there twice."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(value)))
        holder = value
        for key in path:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = draw(VALUES)
        elif draw(st.booleans()):
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "rope_type", "factor", "x"]))] = draw(
                VALUES
            )
        if not places(value):
            break
    return json.dumps(value).encode()


@st.composite
def changed_bytes(draw: Callable, original: bytes) -> bytes:
    """Bytes of which some are others, or gone, or there twice."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(1, 8))
        kind = draw(st.sampled_from(["write", "insert", "cut", "double", "end"]))
        new = draw(st.binary(min_size=size, max_size=size))
        if kind == "write":
            data[at : at + size] = new
        elif kind == "insert":
            data[at:at] = new
        elif kind == "cut":
            del data[at : at + size]
        elif kind == "double":
            data[at:at] = data[at : at + 40]
        else:
            del data[at:]
    return bytes(data)


def outcome(open_it: Callable[[], object], size: int) -> str:
    """'opened' or 'refused'; fails unless `open_it` works or says why not in one line,
    in bounded memory."""
    said = "opened"
    tracemalloc.start()
    try:
        open_it()
    except UserError as error:
        said = "refused"
        assert str(error) and "\n" not in str(error) and len(str(error)) < 1000
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < size + ROOM
    return said


def require_many_refused(outcomes: collections.Counter) -> None:
    """Fail unless a thousand were tried, and most changes mattered, but not all."""
    assert outcomes.total() >= 1000, outcomes
    assert outcomes["refused"] > 500 and outcomes["opened"], outcomes


def header_of(path: Path) -> tuple[dict, bytes]:
    """The header of a real file, and the bytes after it."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


HEADER, REST = header_of(LLAMA / "model.safetensors")
FEW = {name: HEADER[name] for name in sorted(HEADER)[-4:]}
CONFIGS = {
    name: json.loads((GOLDEN / name / "config.json").read_text()) for name in NAMES
}
SHARD = "model-00001-of-00001.safetensors"


def read_all(path: Path) -> None:
    source = folder.open_folder(path)
    for name in source.shapes:
        assert source.read(name).shape == source.shapes[name]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return Path(shutil.copytree(LLAMA, tmp_path_factory.mktemp("fuzz") / "model"))


@pytest.mark.slow
def test_headers(home: Path):
    path, outcomes = home / "model.safetensors", collections.Counter()

    @fuzz
    @given(
        header=st.one_of(
            changed_json(HEADER),
            changed_json(FEW),  # so that changes meet
            changed_bytes(json.dumps(HEADER).encode()),
        ),
        length=st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 5000),
        rest=st.sampled_from([REST, REST, REST[:-4], REST + b"\0", b""]),
    )
    def check(header: bytes, length: int | None, rest: bytes) -> None:
        start = (len(header) if length is None else length).to_bytes(8, "little")
        path.write_bytes(start + header + rest)
        outcomes[outcome(lambda: read_all(home), path.stat().st_size)] += 1

    check()
    require_many_refused(outcomes)


@pytest.fixture(scope="module")
def configured(tmp_path_factory) -> Path:
    """Copies of all families' folders."""
    return Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("fuzz") / "families"))


def load(path: Path) -> None:
    source = folder.open_folder(path)
    weights.load(source, TransformerConfig(**hf_config.to_config(source.config)))


@st.composite
def changed_config(draw: Callable) -> tuple[str, bytes]:
    """A family, and the config.json of its model after some changes."""
    name = draw(st.sampled_from(NAMES))
    as_json = changed_json(CONFIGS[name])
    as_bytes = changed_bytes(json.dumps(CONFIGS[name]).encode())
    return name, draw(st.one_of(as_json, as_json, as_bytes))


def test_a_huge_vocabulary_is_refused_in_little_memory(tmp_path: Path):
    """By the import itself, tokenizer and all."""
    source = put_together(tmp_path / "model")
    path = source / "config.json"
    config = json.loads(path.read_text()) | {"vocab_size": 2**31 - 1}
    path.write_text(json.dumps(config))
    settings = ConfigDict({"path": str(source), "base": "", "seed": 0})
    assert outcome(lambda: import_model.run(settings, tmp_path / "run"), 0) == "refused"


@pytest.mark.slow
def test_configs(configured: Path):
    outcomes = collections.Counter()

    @fuzz
    @given(changed_config())
    def check(changed: tuple[str, bytes]) -> None:
        name, text = changed
        folder = configured / name
        (folder / "config.json").write_bytes(text)
        size = (folder / "model.safetensors").stat().st_size
        outcomes[outcome(lambda: load(folder), size + len(text))] += 1

    check()
    require_many_refused(outcomes)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    path = Path(shutil.copytree(LLAMA, tmp_path_factory.mktemp("fuzz") / "model"))
    return (path / "model.safetensors").rename(path / SHARD).parent


def test_indices(sharded: Path):
    table = {name: SHARD for name in HEADER}
    whole = {"metadata": {"total_size": 1}, "weight_map": table}
    outcomes = collections.Counter()

    @fuzz
    @given(changed_json(whole))
    def check(text: bytes) -> None:
        (sharded / "model.safetensors.index.json").write_bytes(text)
        size = (sharded / SHARD).stat().st_size
        outcomes[outcome(lambda: read_all(sharded), size)] += 1

    check()
    require_many_refused(outcomes)


@pytest.mark.parametrize(
    "unit",
    [
        b"[]",
        b"{}",
        b"0",
        b'""',
        b"1e9",
        b'{"a":[0,0]}',
        b'"\xf0\x9f\x98\x80"',
        b"[" * 9,
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [200_000, 2_000_000, 30_000_000])
def test_bombs(unit: bytes, size: int):
    """Texts that Python would make much larger objects of."""
    text = b'{"a":[' + b",".join([unit] * (size // (len(unit) + 1))) + b"]}"
    outcome(lambda: json_object.parse(text, "config.json", len(text)), len(text))


def test_many_keys():
    """Keys are the dearest values; as many as may be are parsed within the bound."""
    text = json.dumps({f"{i:05}": [] for i in range(50_000)}).encode()
    assert len(json_object.parse(text, "config.json", len(text))) == 50_000
    outcome(lambda: json_object.parse(text, "config.json", len(text)), len(text))


def test_a_header_as_long_as_the_file_says(home: Path):
    """A length is believed neither beyond the file nor beyond a limit."""
    path = home / "model.safetensors"
    with open(path, "wb") as file:
        file.write((tensor_file.HEADER_LIMIT + 1).to_bytes(8, "little"))
        file.truncate(3 * tensor_file.HEADER_LIMIT)  # a hole takes no room
    assert outcome(lambda: read_all(home), 0) == "refused"
    with pytest.raises(UserError, match="a header of 100,000,001 bytes"):
        read_all(home)
