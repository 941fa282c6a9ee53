"""A tiny model of bytes, and texts of several lengths."""

import jax
import numpy as np

from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import specs
from genlm.tokenizer.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()
MODEL = TransformerConfig(
    vocab_size=TOKENIZER.vocab_size,
    max_length=64,
    num_layers=2,
    model_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=64,
    scan_layers=True,  # one is compiled
)
TEXTS = ("a", "the sea at night", "", "under the old bridge a boat lies still", "ab c")


def params(seed: int = 0):
    """Its parameters, ten times as large as usual: else texts are all alike."""
    made = specs.initialize(transformer.param_specs(MODEL), jax.random.PRNGKey(seed))
    return jax.tree.map(lambda x: x * 10 if x.ndim > 2 else x, made)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
