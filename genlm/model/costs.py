"""COSTS: the model operations of training, counted as papers count them.

Numbers only: no array is made and no jax loaded, so that a peer's process may ask too.
"""

import math
from typing import Any, Mapping


def flops_per_token(
    parameters: int, num_layers: int, num_heads: int, head_dim: int, length: int
) -> int:
    """Operations to train on a token: 6 a parameter in products, and causal attention.

    A query sees (T + 1) / 2 keys of its row on average, in two products of N x H each;
    the backward pass counts twice. What is computed again (remat) does not count.

    Args:
      parameters: those `in_products`.
      length: T, of a row.
    """
    attention = 6 * num_layers * num_heads * head_dim * (length + 1)
    return 6 * parameters + attention


def in_products(specs: Mapping[str, Any]) -> int:
    """Parameters that a token is multiplied with, of a model's `param_specs`: no norm,
    no bias, and of two embeddings the output's."""
    total = 0
    for name, spec in specs.items():
        if isinstance(spec, Mapping):
            total += in_products(spec)
        elif name.endswith(("norm", "bias")):
            continue
        elif name != "embedding" or "unembedding" not in specs:
            total += math.prod(spec.shape)
    return total
