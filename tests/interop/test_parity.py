"""PARITY, live: models of fresh seeds beside transformers, in and out."""

from pathlib import Path
import shlex
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop import folder, hf_config
from tests.golden import make_families
from tests.golden.make_families import Expected
from tests.interop.test_families import (
    TOLERANCE,
    export,
    greedy_of,
    logits_of,
    opened,
    require_same_tensors,
)

torch = pytest.importorskip("torch", reason="torch is not installed: make parity")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: make parity"
)
pytestmark = pytest.mark.slow
_LENGTHS = (9, 23, 16)


def _make(name: str, seed: int) -> tuple[Any, Expected, int]:
    """A model whose greedy answers no rounding changes, what it says, and its seed."""
    while True:
        model = make_families.make_model(name, seed)
        try:
            return model, make_families.expect(model, _LENGTHS, seed), seed
        except make_families.Tie:
            seed += 1


@pytest.mark.parametrize("seed", [1_000, 2_000])
@pytest.mark.parametrize("name", make_families.MODELS)
def test_a_model_goes_in_and_out(name: str, seed: int, tmp_path: Path):
    model, expected, seed = _make(name, seed)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="40KB")
    params, config = opened(tmp_path / "theirs")
    tokens, mask = expected.tokens, expected.mask
    logits = logits_of(params, config, tokens, mask)
    assert np.abs(logits - expected.logits).max() <= TOLERANCE
    answer = greedy_of(params, config, tokens, mask, make_families.TOKENS)
    np.testing.assert_array_equal(answer, expected.greedy)

    export(tmp_path / "ours", params, config, hf_config.family_of(config))
    require_same_tensors(tmp_path / "ours", tmp_path / "theirs")
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    back = make_families.expect(loaded.eval(), _LENGTHS, seed)
    np.testing.assert_array_equal(back.greedy, expected.greedy)
    np.testing.assert_allclose(back.logits, expected.logits, atol=1e-6)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "weights.pt"])
def test_the_line_that_converts_a_pickle_works(file: str, tmp_path: Path):
    """What `open_folder` says is run as it stands, and the folder opens."""
    model = make_families.make_model("gpt2", 0)
    home = tmp_path / "a model's"
    model.config.save_pretrained(home)
    torch.save(model.state_dict(), home / file)
    with pytest.raises(UserError, match="is a pickle") as caught:
        folder.open_folder(home)
    command = shlex.split(str(caught.value).split("transformers: ")[1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    made = tmp_path / f"{home.name}-safetensors"
    params, config = opened(made if made.exists() else home)
    named = dict(model.named_parameters())
    ours = params["layers"]["mlp"]["up"][1]
    theirs = named["transformer.h.1.mlp.c_fc.weight"].detach().numpy()
    np.testing.assert_array_equal(ours, theirs)
