"""The stage that answers prompts."""

import json
from pathlib import Path

from ml_collections import ConfigDict
import pytest

from genlm import stages
from genlm.cli.__main__ import main
from tests.data_files import write_names

ODD = "one\u2028line\u0085here"  # ends of a line to Python, and none in JSON lines


@pytest.mark.slow
def test_prompts_with_any_line_end_come_back(tmp_path: Path, capsys):
    names = write_names(tmp_path / "names.txt")
    command = [
        "run",
        "experiments/pretrain_names.py:smoke",
        f"--workdir={tmp_path}/run",
    ]
    assert main([*command, f"--config.data.paths={names}"]) == 0
    config = ConfigDict(
        {
            "stage": "answer",
            "seed": 0,
            "source": str(tmp_path / "run"),
            "checkpoint": "last",
            "answer": {
                "prompts": (ODD, "a"),
                "chat": False,
                "system": "",
                "max_tokens": 3,
                "temperature": 1.0,
                "top_k": 0,
                "top_p": 1.0,
            },
        }
    )
    for _ in range(2):  # the second time from what was written
        capsys.readouterr()
        stages.run(config, tmp_path / "answers")
        assert repr(ODD) in capsys.readouterr().out
    rows = (tmp_path / "answers" / "answers.jsonl").read_text("utf-8").split("\n")
    assert [json.loads(row)["prompt"] for row in rows if row] == [ODD, "a"]


@pytest.mark.slow
def test_samples_that_are_too_long_are_refused_before_training(tmp_path: Path, capsys):
    names = write_names(tmp_path / "names.txt")
    command = [
        "run",
        "experiments/pretrain_names.py:smoke",
        f"--workdir={tmp_path}/run",
    ]
    command += [f"--config.data.paths={names}", "--config.model.positions=learned"]
    assert main([*command, "--config.eval.max_tokens=100"]) == 1
    assert "positions; ask for fewer tokens" in capsys.readouterr().err
    assert main(command) == 0
