"""The page of a run: it says what the files say, and asks nothing of anyone."""

from html.parser import HTMLParser
from pathlib import Path
import re
import shutil
import sys

import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.errors import UserError
from genlm.runs import contents, directory, lineage, metrics, page, report
from tests.runs.test_plots import STEPS, train_rows

SUMMARY = {
    "source": "books/*.txt",
    "licence": "CC0-1.0",
    "duplicates": 13,
    "vocab_size": 384,
    "row_length": 32,
    "train": {"documents": 647, "tokens": 1807508, "bytes": 2277468, "rows": 1600},
    "valid": {"documents": 71, "tokens": 174367, "bytes": 220560, "rows": 5451},
}
MODEL = {
    "vocab_size": 384,
    "max_length": 32,
    "num_layers": 2,
    "model_dim": 32,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 16,
    "mlp_dim": 64,
    "activation": "swiglu",
    "use_bias": False,
    "tie_embeddings": True,
    "dropout": 0.0,
    "rope_theta": 10000.0,
    "norm_eps": 1e-5,
    "dtype": "float32",
    "scan_layers": False,
    "remat": "none",
}
BITS = {"this model, step 20": 1.2346, "xz": 1.6972, "byte 5-gram": 1.9929}
ATTACK = '<script>alert("x")</script><img src=x onerror=y>\x00 & so on'
VOID = {"meta", "link", "img", "input", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Tags, attributes and text of a page whose elements are all closed."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(k, v or "") for k, v in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def write_stage(folder: Path, inputs: list[Path], config: dict, **files) -> Path:
    """A finished stage: JSON files, and rows for those whose name is NAME_jsonl."""
    folder.mkdir(parents=True)
    directory.write_json(folder / "config.json", config)
    for name, content in files.items():
        if name.endswith("_jsonl"):
            log = metrics.Log(folder / name.replace("_", "."))
            for row in content:
                log.write(row)
            log.close()
        else:
            path = folder / f"{name}.json"
            path.parent.mkdir(exist_ok=True, parents=True)
            directory.write_json(path, content)
    hashes = {
        str(path): {"sha256": lineage.digest(lineage.read(path)["outputs"])}
        for path in inputs
    }
    outputs = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    lineage.write(folder, hashes, lineage.of_outputs(folder, sorted(outputs)))
    return folder


def sample(step: int) -> dict:
    texts = [{"prompt": "The", "text": f" text of step {step}.", "stop_reason": "stop"}]
    texts += [{"prompt": "", "text": ATTACK, "stop_reason": "length"}]
    return {"step": step, "samples": texts}


def write_life(folder: Path) -> Path:
    stages = ["prepare", "pretrain", "evaluate"]
    folder.mkdir()
    directory.write_json(folder / "config.json", {"stages": stages})
    tokenizer = {"stage": "prepare", "tokenizer": {"kind": "bpe"}}
    prepare = write_stage(
        folder / "prepare", [], tokenizer, **{"tokens/summary": SUMMARY}
    )
    pretrain = write_stage(
        folder / "pretrain",
        [prepare],
        {"stage": "pretrain", "train": {"num_steps": STEPS, "batch_size": 40}},
        model=MODEL,
        metrics_jsonl=[r | {"tokens": 45_188 * r["step"]} for r in train_rows()],
        samples_jsonl=[sample(step) for step in range(1, STEPS + 1)],
        **{
            "checkpoints/10.0": {"content": {"step": 10, "valid_loss": None}},
            "checkpoints/20.0": {"content": {"step": 20, "valid_loss": 1.3579}},
            "checkpoints/15.0": {"damaged": True},
        },
    )
    results = {"bits_per_byte": BITS, "samples": sample(99)["samples"]}
    write_stage(folder / "evaluate", [pretrain, prepare], {}, results=results)
    return folder


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Path:
    return write_life(tmp_path_factory.mktemp("runs") / "life")


@pytest.fixture(scope="module")
def html(life) -> str:
    return report.page(life, lambda shape: 1000 * shape["num_layers"] + 340)


def test_numbers_are_those_of_the_files(html, life):
    text = " ".join(Page(html).text.split())
    for expected in (
        "held-out bits a byte 1.235 best baseline 1.697",
        "parameters 2.34k 2 layers of 32",
        "training tokens 1.81M read 0.5 times",
        "training time 5 s 20 steps",
        "2,340 parameters",
        "books/*.txt",
        "CC0-1.0",
        "bpe, 384 tokens; rows of 32",
        "13 duplicate documents",
        "training 647 2,277,468 1,807,508 1.26 1,600",
        "held out 71 220,560 174,367 1.26 5,451",
        "Bits a byte train 1.75 held out 1.247 best baseline 1.697",
        "Loss, nats a token train 1.25 held out 1.358",
        "Learning rate train 5e-05",
        "xz 1.697 +37.5 %",
        "Tokens a second, median 1,010",
        "Memory in use, largest 320 MiB",
        "Token slots trained on, mean 75.0 %",
        "10 not measured 15 manifest not readable 20 1.3579",
        "The text of step 99. ■",
        lineage.read(life / "prepare")["outputs"]["tokens/summary.json"],
        "code " + lineage.code_version(),
        "numpy " + np.__version__,
        "train.batch_size 40",
    ):
        assert expected in text, expected


def test_bars_are_as_long_as_the_bits(html):
    widths = [
        float(w) for w in re.findall(r'class="bar" style="width: ([\d.]+)%', html)
    ]
    largest = max(BITS.values())
    assert widths == [round(100 * b / largest, 1) for b in sorted(BITS.values())]


def test_page_needs_nothing_but_itself(html):
    page = Page(html)
    assert "script" not in page.tags
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value.startswith(("#", "data:")), (name, value)
    for address in re.findall(r"url\(([^)]*)\)", html):
        assert address.startswith("#"), address
    for outside in ("http:", "https:", "@import", "<?xml", "<!DOCTYPE svg"):
        assert outside not in html
    assert "default-src 'none'" in html


def test_what_charts_refer_to_is_there(html):
    page = Page(html)
    ids = {value for name, value in page.attributes if name == "id"}
    used = set(re.findall(r"url\(#([^)]*)\)", html))
    used |= {v[1:] for k, v in page.attributes if k == "xlink:href"}
    assert used and used <= ids
    drawn = set(re.findall(r"var\(--(\w+)\)", html))
    assert drawn <= set(re.findall(r"--(\w+):", html)) and "train" in drawn


def test_samples_stay_text(html):
    page = Page(html)
    assert page.text.count(ATTACK.replace("\x00", "\u2400")) > 8
    assert "img" not in page.tags and "\x00" not in html


def test_samples_over_time_go_from_first_to_last(html):
    steps = [int(n) for n in re.findall(r"text of step (\d+)\.", Page(html).text)]
    assert steps[0] == 99 and steps[1] == 1 and steps[-1] == STEPS
    assert len(steps) == 9 and sorted(steps[1:]) == steps[1:]


def test_the_same_files_give_the_same_page(life, html):
    assert report.page(life, lambda shape: 2340) == html


def test_run_in_progress_reports(tmp_path):
    run = tmp_path / "run"
    config = {"stage": "pretrain", "train": {"num_steps": 20, "batch_size": 4}}
    write_stage(run, [], config, model=MODEL, metrics_jsonl=train_rows()[:1])
    lineage.write(run, {}, {})
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    text = " ".join(Page(report.page(run, lambda shape: 1)).text.split())
    assert "pretrain at step 1 of 20" in text
    assert "Bits a byte train 6.5" in text
    assert "held-out" not in text and "Beside baselines" not in text


def test_life_that_only_prepared_reports(life, tmp_path):
    shutil.copytree(life / "prepare", tmp_path / "prepare")
    shutil.copy(life / "config.json", tmp_path)
    text = " ".join(Page(report.page(tmp_path, lambda shape: 1)).text.split())
    assert "prepare finished pretrain not begun evaluate not begun" in text
    assert "1,807,508" in text


def test_lone_run_finds_the_data_it_was_trained_on_and_no_other(life, tmp_path):
    assert [s.name for s in contents.read(life / "pretrain")] == ["prepare", "pretrain"]
    moved = shutil.copytree(life, tmp_path / "moved")
    content = lineage.read(moved / "pretrain")
    (entry,) = content["inputs"].values()
    content["inputs"] = {"gone/prepare": entry}
    directory.write_json(moved / "pretrain" / "lineage.json", content)
    assert [s.summary for s in contents.read(moved / "pretrain")] == [SUMMARY, {}]
    lineage.write(moved / "prepare", {}, {"tokens": "of another corpus"})
    assert [s.summary for s in contents.read(moved / "pretrain")] == [{}]


def test_run_that_prepared_its_own_data_shows_it(life, tmp_path):
    run = shutil.copytree(life / "pretrain", tmp_path / "run")
    shutil.copytree(life / "prepare", run / "data")
    names = [stage.name for stage in contents.read(run)]
    assert names == ["pretrain: data", "pretrain"]


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_nothing_to_report_is_one_line(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / name) in error
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_missing_extra_is_named(life, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}.*pip install 'genlm\[report\]'"):
        report.page(life, lambda shape: 1)


def test_command_writes_each_page_and_prints_its_path(life, tmp_path, capsys):
    other = shutil.copytree(life / "pretrain", tmp_path / "pretrain")
    out = tmp_path / "page.html"
    assert main(["report", str(other), "--out", str(out)]) == 0
    assert main(["report", str(other), str(life / "prepare")]) == 0
    pages = [out, other / "report.html", life / "prepare" / "report.html"]
    assert capsys.readouterr().out.split() == list(map(str, pages))
    assert "30,880 parameters" in out.read_text("utf-8")
    assert not list(tmp_path.rglob("*.partial"))
    assert main(["report", str(other), str(life), "--out", str(out)]) == 1


def test_training_time_adds_up_over_restarts():
    rows = [{"step": n, "seconds": s} for n, s in enumerate((1.0, 3.0, 0.5, 1.5))]
    assert report.training_seconds(rows) == 4.5


@pytest.mark.parametrize(
    "seconds, words", [(0.7654, "0.765 s"), (90, "1.5 min"), (9000, "2.5 h")]
)
def test_clock(seconds, words):
    assert page.clock(seconds) == words
