"""LINEN: the same decoder as a Flax module, for those who want `init` and `apply`.

    model = Transformer(config)
    variables = model.init(key, tokens_BT)
    logits_BTV = model.apply(variables, tokens_BT)

variables['params'] is the tree that genlm.model.transformer reads, each array boxed
with its logical axes (`nn.get_partition_spec`); `nn.meta.unbox` opens the boxes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from genlm.model import transformer
from genlm.model.config import TransformerConfig
from genlm.parallel import specs


class Transformer(nn.Module):
    """Tokens -> logits; equal to `transformer.apply` and `unembed` to the bit."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        tokens_BT: jax.Array,
        segments_BT: jax.Array | None = None,
        positions_BT: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """logits_BTV in float32.

        Args:
          segments_BT: which document of its row a token is of, 0 at PAD; one document
            a row if None.
          positions_BT: of a token within its document; 0, 1, ... if None.
          train: with dropout and noise, from the 'dropout' random numbers.
        """
        T = tokens_BT.shape[1]
        batch = {
            "tokens": tokens_BT,
            "segments": (
                jnp.ones_like(tokens_BT) if segments_BT is None else segments_BT
            ),
            "positions": (
                jnp.broadcast_to(jnp.arange(T), tokens_BT.shape)
                if positions_BT is None
                else positions_BT
            ),
        }
        is_random = self.config.dropout > 0 or self.config.embedding_noise > 0
        key = self.make_rng("dropout") if train and is_random else None
        params = self._params()
        hidden_BTD, _, _ = transformer.apply(params, batch, self.config, key=key)
        return transformer.unembed(params, hidden_BTD, self.config)

    def _params(self) -> dict:
        tree = transformer.param_specs(self.config)
        return {name: self.param(name, _boxed, tree, name) for name in tree}


def _boxed(key: jax.Array, tree: specs.Specs, name: str):
    """Fresh arrays of tree[name], each in a box that names its axes."""
    arrays = specs.initialize({name: tree[name]}, key)[name]
    return jax.tree.map(
        lambda spec, x: nn.LogicallyPartitioned(x, spec.axes), tree[name], arrays
    )
