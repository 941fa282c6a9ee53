"""TORCH'S SIDE of train_step: python -m benchmarks.train_torch SHAPE DTYPE MODE.

transformers' GPT2LMHeadModel with fused AdamW and fused gelu, its parameters in
float32; 'bfloat16' is autocast. MODE is 'eager' or 'compile'.
"""

import functools
import os
import sys
from typing import Callable

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPT2Config

from benchmarks import pairs
from benchmarks.shapes import SHAPES, Shape

PRODUCT = 2048


def main(shape: Shape, dtype: str, mode: str) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    settings = [("sdpa", n) for n in shape.microbatches]
    if mode == "eager":
        settings.append(("eager", 1))
    makers = {
        f"{attention} attention, {n} microbatches": functools.partial(
            make_step, shape, dtype, mode, attention, n
        )
        for attention, n in settings
    }
    pairs.serve(makers, make_product(dtype))


def make_step(
    shape: Shape, dtype: str, mode: str, attention: str, num_microbatches: int
) -> pairs.Step:
    """Forward, backward, clipping and AdamW on one random batch."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        GPT2Config(
            n_layer=shape.layers,
            n_embd=shape.width,
            n_head=shape.heads,
            n_positions=shape.length,
            vocab_size=shape.vocab,
            activation_function="gelu_pytorch_tanh",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        ),
        attn_implementation=attention,
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    batch = torch.from_numpy(shape.random_tokens())

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        targets = rows[:, 1:].flatten()
        return functional.cross_entropy(logits.float().flatten(0, 1), targets)

    if mode == "compile":
        loss_of = torch.compile(loss_of)

    def step() -> float:
        optimizer.zero_grad()
        total = 0.0
        for rows in batch.chunk(num_microbatches):
            loss = loss_of(rows) / num_microbatches
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return total

    return step


def make_product(dtype: str) -> Callable[[], float]:
    x = torch.randn(PRODUCT, PRODUCT).to(getattr(torch, dtype))
    return lambda: pairs.product_flops(lambda: x @ x, PRODUCT)


if __name__ == "__main__":
    main(SHAPES[sys.argv[1]], *sys.argv[2:])
