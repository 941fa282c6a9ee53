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


def in_products(specs: Mapping[str, Any], active_share: float = 1.0) -> int:
    """Parameters that a token is multiplied with, of a model's `param_specs`: no norm,
    no bias, no learned position, and of two embeddings the output's.

    Args:
      active_share: of the experts, those that a token goes through.
    """
    total = 0
    for name, spec in specs.items():
        if isinstance(spec, Mapping):
            total += in_products(spec, active_share)
        elif name.endswith(("norm", "bias", "positions")):
            continue
        elif name != "embedding" or "unembedding" not in specs:
            is_expert = "experts" in spec.axes and name != "router"
            share = active_share if is_expert else 1
            total += round(math.prod(spec.shape) * share)
    return total
