"""NAMED SIZES: the shapes that recipes choose from, and what of a model's config is no
shape but how it is computed, so that a run that goes on may choose it anew."""

from typing import Any

HOW = tuple(
    "dropout embedding_noise dtype scan_layers remat expert_dispatch"
    " capacity_factor".split()
)

SIZES: dict[str, dict[str, Any]] = {
    # name: (layers, width, heads, kv heads, head dim, mlp)
    name: dict(
        zip("num_layers model_dim num_heads num_kv_heads head_dim mlp_dim".split(), row)
    )
    for name, row in {
        "smoke": (2, 32, 2, 1, 16, 64),
        "nano": (4, 128, 4, 4, 32, 352),
        "mini": (4, 256, 4, 4, 64, 704),
        "small": (6, 384, 6, 6, 64, 1024),
        "125m": (12, 768, 12, 12, 64, 2048),
        "350m": (24, 1024, 16, 16, 64, 2816),
        "1b": (16, 2048, 32, 8, 64, 8192),
        "8b": (32, 4096, 32, 8, 128, 14336),
        "70b": (80, 8192, 64, 8, 128, 28672),
    }.items()
}
