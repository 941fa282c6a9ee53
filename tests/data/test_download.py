"""Downloads from a server on loopback: whole, resumed, verified, or one clear line."""

import hashlib
from pathlib import Path
from pydoc_data import topics
import socket
import threading
import time
from urllib.parse import quote

import pytest

from genlm.data import download, public, sources
from genlm.errors import UserError
from genlm.runs import directory, lineage
from tests.bad_input.recipes import PREPARE_ONLY
from tests.command import ROOT, contents, genlm, mistake, start
from tests.data.file_server import FileServer

TEXT = Path(topics.__file__).read_bytes()  # 0.7 MB, with letters past ASCII
SHA256 = hashlib.sha256(TEXT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
QUICK = (0.0, 0.0)
MIDDLE = len(TEXT) // 2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path):
    with FileServer(TEXT) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def prepare_only(tmp_path: Path) -> Path:
    path = tmp_path / "prepare_only.py"
    path.write_text(PREPARE_ONLY)
    return path


def _fetch(server: FileServer, sha256: str = SHA256) -> Path:
    return download.fetch(download.Remote(server.url, sha256), pauses=QUICK)


def _pinned(server: FileServer) -> str:
    return f"{server.url}#sha256={SHA256}"


def _partial(server: FileServer) -> Path:
    path = download.Remote(server.url, SHA256).path
    return path.with_name(path.name + ".partial")


def test_a_file_comes_whole_once(server, cache):
    said = []
    remote = download.parse(_pinned(server))
    path = download.fetch(remote, lambda *report: said.append(report), QUICK)
    assert path == cache / "genlm/data" / SHA256 / "topics.txt"
    assert list(contents(cache).items()) == [(path, TEXT)]
    assert said[0] == ("download topics.txt", 0, len(TEXT))
    assert said[-1] == ("download topics.txt", len(TEXT), len(TEXT))
    assert _fetch(server) == path and server.ranges == [None]


def test_it_is_a_file_like_any_other(server, tmp_path):
    (tmp_path / "poem.txt").write_text("One line\nand one more")
    paths = f"{tmp_path}/*.txt, {_pinned(server)},{_pinned(server)}"
    documents = list(sources.read(paths, "file"))
    texts = ["".join(document.parts()) for document in documents]
    assert texts == ["One line\nand one more", TEXT.decode()]


@pytest.mark.parametrize("cuts", [[1], [MIDDLE], [1000] * 5, [len(TEXT) - 1], [0]])
def test_a_cut_connection_goes_on_where_it_was(server, cuts: list[int]):
    server.cuts = list(cuts)
    assert _fetch(server).read_bytes() == TEXT
    assert server.num_bytes == len(TEXT)
    begins = [sum(cuts[:i]) for i in range(len(cuts) + 1)]
    assert server.ranges == [f"bytes={b}-" if b else None for b in begins]


def test_a_server_without_ranges_begins_anew(server):
    server.cuts, server.has_ranges = [MIDDLE], False
    assert _fetch(server).read_bytes() == TEXT
    assert server.num_bytes == MIDDLE + len(TEXT)


def test_a_server_that_never_gets_further_is_given_up(server):
    server.cuts, server.has_ranges = [MIDDLE] * 9, False
    with pytest.raises(UserError, match=f"cut at byte {MIDDLE:,} of {len(TEXT):,}"):
        _fetch(server)
    assert len(server.ranges) == 1 + len(QUICK)
    server.cuts = []
    assert _fetch(server).read_bytes() == TEXT


@pytest.mark.parametrize("kind", ["whole", "too long", "of another text", "a byte"])
def test_what_another_process_left_is_used_if_it_is_good(server, kind: str):
    left = {
        "whole": TEXT,
        "too long": TEXT + b"more",
        "of another text": b"x" * MIDDLE,
        "a byte": TEXT[:1],
    }[kind]
    _partial(server).parent.mkdir(parents=True)
    _partial(server).write_bytes(left)
    path = _fetch(server)
    assert path.read_bytes() == TEXT and not _partial(server).exists()
    assert server.num_bytes == {"whole": 0, "a byte": len(TEXT) - 1}.get(
        kind, server.num_bytes
    )


def test_a_process_that_was_killed_is_gone_on_with(server, prepare_only, tmp_path):
    server.stall_after = MIDDLE
    command = ["run", prepare_only, "--workdir", tmp_path / "run"]
    command += [f"--config.data.paths={_pinned(server)}"]
    process = start(*command)
    while not _partial(server).exists() or not _partial(server).stat().st_size:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = _partial(server).stat().st_size
    server.stall_after = None
    genlm(*command)
    assert server.ranges == [None, f"bytes={kept}-"]
    assert server.num_bytes == MIDDLE + len(TEXT) - kept
    assert lineage.faults(tmp_path / "run") == []


def test_two_at_once_download_once(server):
    server.stall_after = MIDDLE
    found, said = [], []

    def fetch() -> None:
        remote = download.Remote(server.url, SHA256)
        found.append(download.fetch(remote, lambda title, *_: said.append(title)))

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    while "wait for topics.txt" not in said:
        time.sleep(0.01)
    server.go.set()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in found] == [TEXT, TEXT]
    assert server.num_bytes == len(TEXT)


def test_other_bytes_are_refused_and_leave_nothing(server, cache):
    path = _fetch(server)
    with pytest.raises(UserError, match=f"expected sha256 {OTHER}, got {SHA256}"):
        _fetch(server, OTHER)
    assert list(contents(cache).items()) == [(path, TEXT)]


def test_a_damaged_copy_is_replaced_and_kept_until_then(server):
    path = _fetch(server)
    path.write_bytes(TEXT[:-1] + b"?")
    server.statuses = [404]
    with pytest.raises(UserError, match="404"):
        _fetch(server)
    assert path.read_bytes() == TEXT[:-1] + b"?"
    assert _fetch(server).read_bytes() == TEXT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_said_at_once(server, cache, status: int):
    server.statuses = [status]
    with pytest.raises(UserError, match=f"{server.url}: {status} "):
        _fetch(server)
    assert len(server.ranges) == 1 and contents(cache) == {}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server, status: int):
    server.statuses = [status] * len(QUICK)
    assert _fetch(server).read_bytes() == TEXT
    server.statuses = [status] * (1 + len(QUICK))
    with pytest.raises(UserError, match=str(status)):
        download.fetch(download.Remote(server.url, OTHER), pauses=QUICK)


def test_a_server_in_trouble_is_given_time(server):
    server.statuses = [500, 500]
    begun = time.monotonic()
    download.fetch(download.Remote(server.url, SHA256), pauses=(0.05, 0.15))
    assert time.monotonic() - begun >= 0.2


def test_no_server_is_said_at_once(cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/text.txt"
        with pytest.raises(UserError, match="refused; .*offline.*--config.data.paths="):
            download.fetch(download.Remote(url, SHA256), pauses=(60.0,))
    with pytest.raises(UserError, match="cannot download http://nowhere.invalid/"):
        download.fetch(download.Remote("http://nowhere.invalid/text.txt", SHA256))


@pytest.mark.parametrize("url", ["http://[::1/t", "http://:80/t", "https:///t"])
def test_a_url_without_a_host_is_said(url: str):
    with pytest.raises(UserError, match="data.paths: http.* names no host"):
        download.parse(f"{url}#sha256={SHA256}")


@pytest.mark.parametrize("host", ["a:b", "a b", "user:password@a", "é" * 99])
def test_a_host_that_cannot_be_is_said(host: str, cache):
    with pytest.raises(UserError, match=f"data.paths: .*http://{host}/t"):
        download.fetch(download.parse(f"http://{host}/t#sha256={SHA256}"))


@pytest.mark.parametrize("pin", ["", "#", "#sha256=", f"#{SHA256}", f"#md5={SHA256}"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_url_without_its_hash_says_how_to_find_it(pin: str, cut: int):
    url = "https://example.org/a/text.txt"
    with pytest.raises(UserError, match=f"sha256sum on it, and write {url}#sha256=HEX"):
        download.parse(url + (pin[:-1] if cut else pin))
    upper = f"{url}#sha256={SHA256.upper()}"
    assert download.parse(upper) == download.Remote(url, SHA256)


@pytest.mark.parametrize(
    "path, name",
    [
        ("a/rows.jsonl?raw=1&x=/y.txt", "rows.jsonl"),
        ("", "text"),
        ("a/..", "text"),
        ("a/" + quote("../../é b\0.txt", safe=""), "é_b_.txt"),
        ("x" * 300 + ".txt", "x" * 96 + ".txt"),
    ],
)
def test_names_stay_in_their_folder(path: str, name: str, cache):
    remote = download.parse(f"https://example.org/{path}#sha256={SHA256}")
    assert remote.path == cache / "genlm/data" / SHA256 / name


def test_a_full_disk_is_one_line_and_what_came_stays(server, prepare_only, tmp_path):
    command = ["run", prepare_only, "--workdir", tmp_path / "run"]
    command += [f"--config.data.paths={_pinned(server)}"]
    line = mistake(*command, file_bytes=MIDDLE)
    assert "cannot write" in line and "File too large; make room there" in line
    assert not (tmp_path / "run").exists()
    assert _partial(server).stat().st_size == MIDDLE
    assert _fetch(server).read_bytes() == TEXT
    assert server.ranges == [None, f"bytes={MIDDLE}-"]


@pytest.mark.parametrize(
    "recipe",
    [
        "prepare_only",
        # Its programs are compiled anew, since the cache is empty: ten seconds.
        pytest.param("experiments/pretrain_text.py:smoke", marks=pytest.mark.slow),
    ],
)
def test_a_run_needs_the_server_once(recipe, prepare_only, server, cache, tmp_path):
    config = prepare_only if recipe == "prepare_only" else recipe
    command = ["run", config, "--workdir", tmp_path / "run"]
    command += [f"--config.data.paths={_pinned(server)}"]
    genlm(*command)
    server.statuses = [404] * 9
    genlm(*command)
    assert len(server.ranges) == 1
    (path,) = contents(cache / "genlm" / "data")
    (run,) = (p.parent for p in (tmp_path / "run").rglob("tokens"))
    inputs = directory.read_json(run / "lineage.json")["inputs"]
    assert [(name, e["sha256"]) for name, e in inputs.items()] == [(str(path), SHA256)]
    summary = directory.read_json(run / "tokens" / "summary.json")
    assert summary["source"] == _pinned(server) and summary["licence"] == ""
    path.unlink()  # a cache may be emptied; what was made from it stays whole
    assert "as it was written" in genlm("verify", tmp_path / "run").stdout


def test_public_sets_are_pinned_and_licensed():
    for name, row in public.SETS.items():
        assert public.find(name) is row
        assert download.parse(f"{row.url}#sha256={row.sha256}").url == row.url
        assert row.licence and row.about and row.num_bytes > 0
        owner, repository, commit = row.url.split("/")[3:6]
        assert len(commit) == 40 and int(commit, 16), (owner, repository)


def test_the_docs_list_the_public_sets():
    told = (ROOT / "docs" / "data.md").read_text("utf-8")
    for name, row in public.SETS.items():
        about = row.about.replace("<unk>", "`<unk>`")
        line = f"| `public:{name}` | {about} | {row.num_bytes:,} | {row.licence} |"
        assert line in told


def test_an_unknown_public_set_is_said_with_the_known(cache):
    with pytest.raises(UserError, match="did you mean public:tinyshakespeare.*names"):
        list(sources.read("public:tiny_shakespear", "file"))


def test_licences_are_those_of_what_is_named():
    shakespeare, wikipedia = "public domain (Shakespeare)", "CC BY-SA 3.0 (Wikipedia)"
    assert sources.licence("public:tinyshakespeare") == shakespeare
    both = "public:wikitext2_valid, public:tinyshakespeare,public:wikitext2_valid"
    assert sources.licence(both) == f"{wikipedia}; {shakespeare}"
    mixed = f"poems/*.txt,public:tinyshakespeare,https://a.org/b#sha256={SHA256}"
    assert sources.licence(mixed) == f"{shakespeare}; others not stated"
    assert sources.licence("poems/*.txt") == ""
    assert sources.licence(sources.EMBEDDED).startswith("PSF-2.0")
