"""PARITY of adapters, live: PEFT's logits are ours, and ours are PEFT's."""

from pathlib import Path
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.interop import folder, hf_config, peft, weights
from genlm.model import lora
from genlm.model.config import TransformerConfig
from tests.golden import make_families, make_peft
from tests.interop.test_families import TOLERANCE, logits_of
from tests.interop.test_peft import require_same_tensors
from tests.laws import families

REASON = "{} is not installed: make parity"
torch = pytest.importorskip("torch", reason=REASON.format("torch"))
theirs = pytest.importorskip("peft", reason=REASON.format("peft"))
transformers = pytest.importorskip("transformers", reason=REASON.format("transformers"))
pytestmark = pytest.mark.slow
_QKVO = make_peft.EVERY[:4]
CASES = [
    ("llama", dict(r=8, lora_alpha=16, target_modules=make_peft.EVERY)),
    ("llama_biases", dict(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"])),
    ("gemma2", dict(r=6, lora_alpha=1, use_rslora=True, target_modules="all-linear")),
    ("gemma3_text", dict(r=4, lora_alpha=8, target_modules=make_peft.EVERY)),
    ("mistral", dict(r=1, lora_alpha=2, target_modules=r".*_proj")),
    ("qwen2", dict(r=4, lora_alpha=4)),  # PEFT's choice for such models
    ("qwen3", dict(r=4, lora_alpha=4, init_lora_weights=False, target_modules=_QKVO)),
    ("mixtral", dict(r=4, lora_alpha=4, target_modules=_QKVO)),
    ("gpt2", dict(r=4, lora_alpha=4)),
    ("gpt2", dict(r=4, lora_alpha=4, target_modules=["attn.c_proj", "mlp.c_proj"])),
    ("gpt2", dict(r=4, lora_alpha=4, use_dora=True, target_modules=["c_attn", "c_fc"])),
    ("llama_biases", dict(r=3, lora_alpha=5, use_dora=True, use_rslora=True)),
]


@pytest.mark.parametrize("name, settings", CASES, ids=[name for name, _ in CASES])
def test_an_adapter_goes_in_and_out(name: str, settings: dict, tmp_path: Path):
    make_families.make_model(name, seed=3).save_pretrained(tmp_path / "base")
    base = _load(tmp_path)
    model = make_peft.make_adapter(base, settings, seed=4)
    make_peft.save(model, tmp_path / "theirs", "")
    expected = make_peft.expect(model, seed=5)
    tokens, mask = expected["tokens"], np.ones_like(expected["tokens"])

    source = folder.open_folder(tmp_path / "base")
    config = TransformerConfig(**hf_config.to_config(source.config))
    family = hf_config.family_of(config)
    change, tree = peft.read_adapter(tmp_path / "theirs", config, family)
    params = lora.merge(weights.load(source, config), tree, change)
    logits = logits_of(params, config, tokens, mask)
    assert np.abs(logits - expected["logits"]).max() <= TOLERANCE

    peft.write_adapter(tmp_path / "ours", change, tree, config, family, "")
    require_same_tensors(tmp_path / "ours", tmp_path / "theirs")
    plain = make_peft.expect(_load(tmp_path), seed=5)["logits"]
    assert np.abs(plain - expected["logits"]).max() > 0.1
    loaded = theirs.PeftModel.from_pretrained(_load(tmp_path), tmp_path / "ours")
    back = make_peft.expect(loaded.eval(), seed=5)["logits"]
    np.testing.assert_array_equal(back, expected["logits"])
    merged = make_peft.expect(loaded.merge_and_unload(), seed=5)["logits"]
    assert np.abs(merged - logits).max() <= TOLERANCE


@pytest.mark.parametrize("use_dora", [False, True])
def test_gradients_of_an_adapter(use_dora: bool, tmp_path: Path):
    """Of a and b, and of m with DoRA, whose lengths are constants to them."""
    make_families.make_model("llama", seed=3).save_pretrained(tmp_path / "base")
    settings = dict(
        r=3, lora_alpha=5, use_dora=use_dora, target_modules=make_peft.EVERY
    )
    model = make_peft.make_adapter(_load(tmp_path), settings, seed=4)
    make_peft.save(model, tmp_path / "theirs", "")
    tokens = make_peft.expect(model, seed=5)["tokens"]
    model(torch.tensor(tokens)).logits.square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.copy_(parameter.grad)
    make_peft.save(model, tmp_path / "slopes", "")

    source = folder.open_folder(tmp_path / "base")
    config = TransformerConfig(**hf_config.to_config(source.config))
    change, tree = peft.read_adapter(tmp_path / "theirs", config, "llama")
    _, expected = peft.read_adapter(tmp_path / "slopes", config, "llama")
    base, batch = weights.load(source, config), families.alone(tokens, tokens.size)

    def loss(tree):
        params = lora.adapted(base, tree, change)
        return jnp.mean(jnp.square(families.logits(config, batch, params)))

    for path, factors in lora.factors(jax.grad(loss)(tree)).items():
        for factor, slope in factors.items():
            theirs_ = lora.factors(expected)[path][factor]
            off = np.abs(slope - theirs_).max() / np.abs(theirs_).max()
            assert off < 1e-3, (path, factor)


def _load(path: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(
        path / "base", attn_implementation="eager"
    )


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_pickle_is_converted_by_the_line_that_is_said(kind: str, tmp_path: Path):
    make_families.make_model("llama", seed=3).save_pretrained(tmp_path / "base")
    settings = dict(r=2, lora_alpha=4, use_dora=kind == "dora")
    model = make_peft.make_adapter(_load(tmp_path), settings, seed=4)
    home = tmp_path / "an adapter's"
    make_peft.save(model, tmp_path / "whole", "")
    make_peft.save(model, home, "")
    (home / "adapter_model.safetensors").unlink()
    torch.save(theirs.get_peft_model_state_dict(model), home / "adapter_model.bin")
    source = folder.open_folder(tmp_path / "base")
    config = TransformerConfig(**hf_config.to_config(source.config))
    with pytest.raises(UserError, match="is a pickle") as caught:
        peft.read_adapter(home, config, "llama")
    command = shlex.split(str(caught.value).split("transformers: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path)
    require_same_tensors(home, tmp_path / "whole")
    change, tree = peft.read_adapter(home, config, "llama")
    assert change.rank == 2 and change.dora == (kind == "dora")
    assert all(("m" in x) == change.dora for x in lora.factors(tree).values())
