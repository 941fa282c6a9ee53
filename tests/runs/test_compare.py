"""The page of several runs: its numbers are those of the files, its curves stand where
the axes say, and it warns where held-out figures cannot be compared."""

from pathlib import Path
import re
import shutil

import numpy as np
import pytest

from genlm.cli.__main__ import main
from genlm.errors import UserError
from genlm.model import costs, transformer
from genlm.model.config import TransformerConfig
from genlm.runs import axes, compare, directory, overlay, plots
from tests.command import mistake
from tests.data_files import write_names
from tests.runs.test_report import ATTACK, MODEL, SUMMARY, Page, write_stage

NAMES = "experiments/pretrain_names.py:smoke"


def write_run(
    folder: Path, data: list[Path], scale: float = 1.0, rows: int = 300, **train
) -> Path:
    """A finished run whose bits a byte are 2 x scale at its end."""
    metrics: list[dict] = []
    for step in range(1, rows + 1):
        bits = scale * (2 + 5 / step - 5 / rows)
        row = {"step": step, "loss": bits / 2, "bits_per_byte": bits}
        row |= {"tokens": 100 * step, "seconds": step / 2, "tokens_per_second": 200.0}
        metrics.append(row)
        if step % 100 == 0:
            held_out = {"valid_loss": bits, "valid_bits_per_byte": bits + 0.5}
            metrics.append({"step": step, **held_out})
    config = {"stage": "pretrain", "train": {"num_steps": rows, **train}, "seed": 0}
    return write_stage(folder, data, config, model=MODEL, metrics_jsonl=metrics)


def write_data(folder: Path, kind: str = "byte", **data) -> Path:
    config = {"tokenizer": {"kind": kind}, "data": {"document": "line", **data}}
    files = {"tokens/summary": SUMMARY, f"tokens/tokenizer/{kind}": {"kind": kind}}
    files["tokens/valid/tokens-00000"] = [config]  # as text and tokenizer make them
    return write_stage(folder, [], config, **files)


def page(*folders: Path) -> str:
    return compare.page(folders, lambda shape: 12345, lambda shape: 1000)


def words(html: str) -> str:
    return " ".join(Page(html).text.split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    data = write_data(root / "data")
    return [
        write_run(root / "plain", [data], batch_size=8),
        write_run(root / "better", [data], scale=0.5, rows=600, batch_size=16),
        write_run(root / ATTACK[:25].replace("/", ""), [data], scale=2, batch_size=8),
    ]


@pytest.fixture(scope="module")
def html(runs) -> str:
    return page(*runs)


def test_numbers_are_those_of_the_files(html):
    text = words(html)
    for expected in (
        "3 runs compared",
        "1 plain 2 better 3 <script>",
        "status finished finished finished",
        "parameters 12.3k 12.3k 12.3k",
        "steps 300 600 300",
        "tokens trained on 30k 60k 30k",
        "FLOPs 30M 60M 30M",
        "time 2.5 min 5 min 2.5 min",
        "tokens a second, median 200 200 200",
        "held-out bits a byte, last 2.5000 1.5000 4.5000",
        "held-out nats a token, best 2.0000 1.0000 4.0000 ... at step 300 600 300",
        "train.batch_size 8 16 8",
        "train.num_steps 300 600 300",
        "Time, minutes",
    ):
        assert expected in text, expected
    assert "seed" not in text and "cannot be compared" not in text
    best = re.findall(r'<td class="best">([^<]*)<', html)
    assert best == ["1.5000", "1.5000", "1.0000", "1.0000"]


def test_page_needs_nothing_but_itself(html):
    page = Page(html)
    assert not {"script", "img"} & set(page.tags) and "default-src 'none'" in html
    for outside in ("http:", "https:", "@import", "<?xml", "<!DOCTYPE svg"):
        assert outside not in html
    drawn = set(re.findall(r"var\(--(\w+)\)", html))
    assert {"run1", "run2", "run3"} <= drawn <= set(re.findall(r"--(\w+):", html))
    assert page.tags.count("input") == len(axes.AXES)
    assert page.tags.count("svg") == len(axes.AXES) * len(compare.CURVES)


def test_the_same_files_give_the_same_page(runs, html):
    assert page(*runs) == html


def test_curves_stand_where_the_axes_say():
    rows: list[dict] = [
        {"step": 10, "loss": 3.0, "tokens": 70, "seconds": 4.0},
        {"step": 20, "loss": 2.0, "tokens": 150, "seconds": 9.0},
        {"step": 25, "valid_loss": 2.5},
        {"step": 30, "loss": 1.0, "tokens": 250, "seconds": 3.0},  # it went on
    ]
    found = axes.of(rows, flops_per_token=4)
    by = {k: axes.along(plots.points(rows, "loss"), v)[:, 0] for k, v in found.items()}
    np.testing.assert_array_equal(by["steps"], [10, 20, 30])
    np.testing.assert_array_equal(by["tokens"], [70, 150, 250])
    np.testing.assert_array_equal(by["flops"], [280, 600, 1000])
    np.testing.assert_array_equal(by["time"], [4, 9, 12])
    valid = plots.points(rows, "valid_loss")
    np.testing.assert_array_equal(axes.along(valid, found["tokens"]), [[200, 2.5]])
    later = [*rows, {"step": 40, "valid_loss": 0.9}]  # no row of training came after
    valid = plots.points(later, "valid_loss")
    found = axes.of(later, flops_per_token=4)
    assert axes.along(valid, found["steps"])[:, 0].tolist() == [25, 40]
    assert axes.along(valid, found["tokens"])[:, 0].tolist() == [200]


def test_lines_are_drawn_in_their_colours_and_numbered():
    x = np.arange(1.0, 11)
    curves = [np.stack([x, n + 1 / x], 1) for n in (1, 1, 2)] + [np.zeros((0, 2))]
    svg = overlay.draw(curves, "salt")
    for number in (1, 2, 3):
        line = rf'<path d="([^"]*)"[^>]*stroke: var\(--run{number}\); stroke-width: 1.4'
        assert len(re.findall(line, svg)) == 1
    labels = re.findall(r"fill: var\(--run(\d)\)[^>]*>(\d)</text>", svg)
    assert sorted(labels) == [("1", "1"), ("2", "2"), ("3", "3")]
    place = r'fill: var\(--run\d\)"[^>]*y="([\d.]+)"[^>]*>\d</text>'
    heights = sorted(map(float, re.findall(place, svg)))
    assert len(heights) == 3 and min(np.diff(heights)) > 8.9


def test_numbers_give_way_only_where_they_would_cover_each_other():
    places = np.array([[0, 5.0], [0, 5.0], [1, 7.0], [100, 5.0]])
    heights = overlay.spread(places)
    np.testing.assert_allclose(heights[:3].mean(), places[:3, 1].mean())
    assert min(np.diff(np.sort(heights[:3]))) > 8.9 and heights[3] == 5


def test_first_steps_do_not_set_the_frame():
    x = np.arange(1.0, 1001)
    assert overlay.highest([np.stack([x, 100 / x], 1), np.zeros((0, 2))]) < 1.1


@pytest.mark.parametrize(
    "change, said",
    [
        ({"kind": "bpe"}, "same held-out text into other tokens"),
        ({"clean": True}, "different held-out texts"),
        (None, "is not known: the data of other is not where it was"),
    ],
)
def test_held_out_figures_of_other_text_are_not_ranked(runs, tmp_path, change, said):
    data = write_data(tmp_path / "data", **(change or {"document": "file"}))
    other = write_run(tmp_path / "other", [data])
    if change is None:
        (data / "tokens/summary.json").unlink()
    html = page(runs[0], other)
    assert said in words(html)
    best = re.findall(r'<td class="best">', html)
    assert len(best) == (4 if change == {"kind": "bpe"} else 0)


def test_flops_are_six_a_parameter_in_products_and_attention():
    tied = TransformerConfig(**MODEL)
    free = TransformerConfig(**MODEL | {"tie_embeddings": False, "use_bias": True})
    blocks = 2 * (32 * (2 + 2 * 1) * 16 + 2 * 16 * 32 + 3 * 32 * 64)
    for config in (tied, free):
        specs = transformer.param_specs(config)
        assert costs.in_products(specs) == blocks + 384 * 32
    assert costs.flops_per_token(1000, 2, 2, 16, 31) == 6000 + 12 * 2 * 32 * 16


@pytest.mark.slow
def test_command_compares_real_runs(tmp_path, monkeypatch, capsys):
    names = write_names(tmp_path / "names.txt")
    settings = [f"--config.data.paths={names}", "--config.eval.sample_every=0"]
    assert main(["run", NAMES, "--workdir", str(tmp_path / "a"), *settings]) == 0
    config = directory.read_json(tmp_path / "a/config.json")
    config["optimizer"]["learning_rate"] = 0.5
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    directory.write_json(tmp_path / "b/config.json", config)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["report", "a", "b", "--compare"]) == 0
    assert capsys.readouterr().out == "compare.html\n"
    html = Path("compare.html").read_text("utf-8")
    text = words(html)
    assert text.endswith("1 a 2 b optimizer.learning_rate 0.003 0.5")
    assert "held-out bits a byte, best" in text and "Not counted" not in text
    assert "parameters 26.9k 26.9k" in text and 'class="warning"' not in html
    assert not Path("a/report.html").exists()


@pytest.mark.parametrize(
    "folders, said",
    [
        (["plain"], "2 to 8 runs, not 1"),
        (["plain"] * 9, "2 to 8 runs, not 9"),
        (["plain", "absent"], "no directory"),
        (["plain", "data"], "has no metrics to compare"),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs, tmp_path, folders, said):
    out = tmp_path / "page.html"
    paths = [runs[0].parent / name for name in folders]
    with pytest.raises(UserError, match=said):
        page(*paths)
    if len(folders) == 1:
        assert said in mistake("report", *paths, "--compare", "--out", out)
        assert not out.exists()
