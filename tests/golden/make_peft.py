"""Make tests/golden/peft/: adapters of the tiny models beside, as PEFT writes them.

    python -m tests.golden.make_peft

needs torch, transformers and peft (extra `bench`). Each folder holds what
save_pretrained writes of a LoRA adapter with random numbers, and expected.npz: tokens
[B, T] and the logits [B, T, V] of the model of tests/golden/families with it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden import make_families

FOLDER = Path(__file__).parent / "peft"
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_REGEX = r".*\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
# the family of the base -> what LoraConfig of PEFT is made with
ADAPTERS: dict[str, dict[str, Any]] = {
    "llama": dict(r=4, lora_alpha=8, target_modules=EVERY, lora_dropout=0.1),
    "gemma2": dict(r=2, lora_alpha=3, use_rslora=True, target_modules=_REGEX),
    "gpt2": dict(r=2, lora_alpha=6, target_modules=["c_attn", "attn.c_proj", "c_fc"]),
    "qwen3_moe": dict(r=2, lora_alpha=4, target_modules=["q_proj", "o_proj"]),
    "qwen3": dict(r=2, lora_alpha=3, use_dora=True, target_modules=EVERY),
}


def make_adapter(base: Any, settings: dict[str, Any], seed: int) -> Any:
    """A PEFT model around `base`, all numbers of its adapter random."""
    import peft
    import torch

    config = peft.LoraConfig(task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                noise = 0.2 * torch.randn(parameter.shape, generator=generator)
                is_length = "lora_magnitude" in name
                parameter.copy_(parameter * (1 + noise) if is_length else noise)
    return model.eval()


def save(model: Any, out: Path, base: str) -> None:
    """What save_pretrained writes, without its README; `base` names the model."""
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(out, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)


def expect(model: Any, seed: int) -> dict[str, np.ndarray]:
    """Random tokens [B, T], and the model's logits [B, T, V]."""
    import torch

    random = np.random.default_rng(seed)
    tokens = random.integers(1, model.config.vocab_size, (1, 8))
    with torch.no_grad():
        logits = model(torch.tensor(tokens)).logits.numpy()
    return {"tokens": tokens.astype(np.int32), "logits": logits.astype(np.float32)}


def main() -> None:
    import transformers

    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        base = transformers.AutoModelForCausalLM.from_pretrained(
            make_families.FOLDER / name, attn_implementation="eager"
        )
        model = make_adapter(base, settings, seed)
        save(model, FOLDER / name, f"tiny/{name}")
        np.savez_compressed(FOLDER / name / "expected.npz", **expect(model, seed))
        print(name)


if __name__ == "__main__":
    main()
