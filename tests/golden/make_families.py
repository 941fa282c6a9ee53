"""Make tests/golden/families/: tiny models of every family, as transformers has them.

    python -m tests.golden.make_families

needs torch and transformers (extra `bench`). Each folder holds what save_pretrained
writes of a model with random parameters, and expected.npz: tokens [B, T], padding on
the left where mask is 0, logits [B, T, V] elsewhere, and what greedy decoding answers
to each row. Only public classes of transformers are used.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).parent / "families"
TOKENS = 64  # of a greedy answer
_LENGTHS = {"plain": (20, 20), "padded": (11, 20, 15)}
_MARGIN = 1e-3  # between the best logit and the next, so that rounding decides nothing
_WINDOW = 6
_COMMON = dict(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    max_position_embeddings=128,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
_GEMMA = dict(_COMMON, num_hidden_layers=3, head_dim=8, sliding_window=_WINDOW)
_LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500_000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
_YARN = dict(
    rope_type="yarn",
    rope_theta=10_000.0,
    factor=4.0,
    original_max_position_embeddings=32,
)
_LINEAR = dict(rope_type="linear", rope_theta=10_000.0, factor=2.0)
_GEMMA3_ROPE = {
    "full_attention": dict(rope_type="linear", rope_theta=1_000_000.0, factor=8.0),
    "sliding_attention": dict(rope_type="default", rope_theta=10_000.0),
}
# name -> (its class of configs, what it is made with)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": (
        "LlamaConfig",
        dict(_COMMON, rope_parameters=_LLAMA3, tie_word_embeddings=True),
    ),
    "llama_biases": (
        "LlamaConfig",
        dict(_COMMON, rope_parameters=_YARN, attention_bias=True, mlp_bias=True),
    ),
    "mistral": (
        "MistralConfig",
        dict(_COMMON, sliding_window=_WINDOW, head_dim=16, rms_norm_eps=1e-5),
    ),
    "qwen2": (
        "Qwen2Config",
        dict(
            _COMMON,
            use_sliding_window=True,
            sliding_window=_WINDOW,
            max_window_layers=1,
            rope_parameters=_LINEAR,
        ),
    ),
    "qwen3": (
        "Qwen3Config",
        dict(
            _COMMON,
            head_dim=16,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=_WINDOW,
            max_window_layers=1,
        ),
    ),
    "gemma2": (
        "Gemma2Config",
        dict(
            _GEMMA,
            query_pre_attn_scalar=24,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
        ),
    ),
    "gemma3_text": (
        "Gemma3TextConfig",
        dict(
            _GEMMA,
            query_pre_attn_scalar=24,
            layer_types=["sliding_attention"] * 2 + ["full_attention"],
            rope_parameters=_GEMMA3_ROPE,
        ),
    ),
    "mixtral": (
        "MixtralConfig",
        dict(
            _COMMON,
            intermediate_size=24,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=_WINDOW,
        ),
    ),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        dict(
            _COMMON,
            moe_intermediate_size=16,
            num_experts=6,
            num_experts_per_tok=3,
            norm_topk_prob=False,
            use_sliding_window=True,
            sliding_window=_WINDOW,
        ),
    ),
    "gpt2": (
        "GPT2Config",
        dict(
            vocab_size=64,
            n_positions=128,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_inner=48,
            bos_token_id=None,
            eos_token_id=None,
        ),
    ),
}


class Tie(Exception):
    """Two logits are too near for a greedy answer that rounding does not change."""


class Expected(NamedTuple):
    """Of a batch: tokens and mask [B, T], logits [B, T, V], greedy [B, TOKENS]."""

    tokens: np.ndarray
    mask: np.ndarray
    logits: np.ndarray
    greedy: np.ndarray


def make_model(name: str, seed: int) -> Any:
    """A model of MODELS in float32, all of its parameters random."""
    import torch
    import transformers

    kind, settings = MODELS[name]
    config = getattr(transformers, kind)(**settings)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(0.15 * noise)
            else:  # norms, around what they are at first, and biases
                parameter.add_(0.3 * noise)
    return model.eval()


def expect(model: Any, lengths: tuple[int, ...], seed: int) -> Expected:
    """What the model says of random rows of those lengths, padded on the left.

    Raises:
      Tie: take another seed.
    """
    import torch

    random = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1]) >= shape[1] - np.array(lengths)[:, None]).astype(int)
    tokens = random.integers(1, model.config.vocab_size, shape) * mask
    ids, seen = torch.tensor(tokens), torch.tensor(mask)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(ids, attention_mask=seen, position_ids=positions).logits
    greedy_BM = greedy(model, ids, seen, pad_token_id=0)
    kept = logits.numpy() * mask[..., None]
    return Expected(tokens, mask, kept.astype(np.float32), greedy_BM)


def greedy(model: Any, ids: Any, seen: Any, **settings: Any) -> np.ndarray:
    """The TOKENS likeliest tokens after rows of ids, fewer where STOP comes.

    Raises:
      Tie: rounding may change them.
    """
    import torch

    with torch.no_grad():
        answer = model.generate(
            ids,
            attention_mask=seen,
            do_sample=False,
            max_new_tokens=TOKENS,
            return_dict_in_generate=True,
            output_logits=True,
            **settings,
        )
    best = torch.stack(answer.logits).topk(2, dim=-1).values
    margin = float((best[..., 0] - best[..., 1]).min())
    if margin < _MARGIN:
        raise Tie(f"two logits differ by {margin}")
    return answer.sequences[:, ids.shape[1] :].numpy()


def main() -> None:
    for name in MODELS:
        for seed in range(100):
            model = make_model(name, seed)
            try:
                expected = {k: expect(model, n, seed) for k, n in _LENGTHS.items()}
                break
            except Tie as tie:
                print(f"{name} seed {seed}: {tie}")
        model.save_pretrained(FOLDER / name)
        (FOLDER / name / "generation_config.json").unlink(missing_ok=True)
        arrays = {
            f"{kind}.{field}": value
            for kind, batch in expected.items()
            for field, value in batch._asdict().items()
        }
        np.savez_compressed(FOLDER / name / "expected.npz", **arrays)
        print(name, "seed", seed)


if __name__ == "__main__":
    main()
