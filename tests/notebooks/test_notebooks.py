"""Every notebook runs from top to bottom in smoke mode, in a folder of its own, and is
committed without outputs and with a way to open it in Colab.
"""

from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.command import ROOT, environment
from tests.interop import gguf_files

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OF_SMOLLM2 = ("runs/smollm2/lineage.json", "exports/smollm2/model.safetensors")
MADE = {  # what a reader is left with
    "01_first_life": (
        "runs/life/prepare/tokens/summary.json",
        "runs/life/pretrain/metrics.jsonl",
        "runs/life/evaluate/results.json",
        "runs/life/report.html",
        "runs/tiny/checkpoints/4.0.json",
    ),
    "02_real_models": OF_SMOLLM2,
    "03_training": (
        "runs/adamw/checkpoints/4.0.json",
        "runs/muon/health.jsonl",
        "runs/compare.html",
    ),
    "04_many_devices": (
        "runs/repeated/checkpoints/4.0.json",
        "runs/split/checkpoints/4.0.json",
    ),
    "05_fine_tuning": (
        "runs/life/exam/results.json",
        "runs/change/adapter/adapter.json",
    ),
    "06_alignment": (
        "runs/preferred/reward/results.json",
        "runs/preferred/dpo/reference.npz",
        "runs/sums/samples.jsonl",
    ),
}
COLAB = "https://colab.research.google.com/github/genlm/genlm/blob/main/notebooks/"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@pytest.mark.slow
@every_notebook
def test_it_runs_from_top_to_bottom(path: Path, tmp_path: Path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    if path.stem == "02_real_models":
        gguf_files.smollm2()
    client.execute(env=environment(GENLM_SMOKE="1"))
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in ran)
    outputs = [output for cell in ran for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    for name in MADE[path.stem]:
        assert (tmp_path / name).stat().st_size, name


@every_notebook
def test_it_is_committed_clean_and_opens_in_colab(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.source
    assert f"({COLAB}{path.name})" in notebook.cells[0].source
