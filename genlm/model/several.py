"""SEVERAL CHANGES of one matrix: each row of a batch has its own, over one base.

Before: lora.several. After: layers.dense, where text is generated; nothing is trained.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from genlm.model import changed, layers


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Several(layers.Matrix):
    """What A - 1 adapters make of w: row b of a batch is changed by that of adapter_B,
    and by none where it is -1 (the last of A).

    The factors of all stand side by side, R ranks together: each is read once, however
    many rows there are, and a row multiplies with 0 what is not its own.
    """

    w: Any
    a_IR: jax.Array
    b_RO: jax.Array
    scale_AR: jax.Array
    gain_AO: jax.Array | None  # of DoRA; see `changed.gain`
    adapter_B: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.w.shape

    def times(self, x_XI: jax.Array, dtype: str) -> jax.Array:
        inner_MR = layers.product(x_XI, self.a_IR, dtype)
        inner_MR = self._times_own(inner_MR, self.scale_AR)
        y_MO = layers.product(x_XI, self.w, dtype)
        y_MO = y_MO + layers.matmul(inner_MR, self.b_RO, dtype)
        return y_MO if self.gain_AO is None else self._times_own(y_MO, self.gain_AO)

    def _times_own(self, x_MN: jax.Array, factor_AN: jax.Array) -> jax.Array:
        """Each row of the batch times the factor of its adapter."""
        x_BTN = x_MN.reshape(self.adapter_B.shape[0], -1, x_MN.shape[-1])
        return (x_BTN * factor_AN[self.adapter_B][:, None]).reshape(x_MN.shape)


def beside(
    w: Any,
    own: Mapping[int, Mapping[str, jax.Array]],
    scales: Sequence[float],
    adapter_B: jax.Array,
) -> Several:
    """A matrix of all layers with the factors {a, b} or {a, b, m} of its changes.

    Args:
      own: by the change's number, of those that change this matrix.
      scales: of all changes.
      adapter_B: the number of each row's; -1 for none.
    """
    owner_R = np.repeat(list(own), [x["a"].shape[-1] for x in own.values()])
    scale_AR = np.zeros((len(scales) + 1, len(owner_R)), np.float32)
    scale_AR[owner_R, np.arange(len(owner_R))] = np.take(scales, owner_R)
    b_LRO = jnp.concatenate([x["b"] for x in own.values()], axis=-2)
    layers_, _, columns = b_LRO.shape
    gain_LAO = None
    if any("m" in x for x in own.values()):
        gain_LAO = jnp.ones((layers_, len(scales) + 1, columns))
    for i, x in own.items():
        if gain_LAO is not None and "m" in x:
            gain_LO = _gains((w, x["a"], x["b"], x["m"]), scales[i])
            gain_LAO = gain_LAO.at[:, i].set(gain_LO)
    return Several(
        w,
        jnp.concatenate([x["a"] for x in own.values()], axis=-1),
        b_LRO,
        jnp.tile(scale_AR, (layers_, 1, 1)),
        gain_LAO,
        jnp.tile(adapter_B, (layers_, 1)),
    )


def _gains(parts: tuple[Any, ...], scale: float) -> jax.Array:
    """gain_LO of (w, a, b, m) of all layers, a layer at a time."""

    def of_layer(parts):
        w, a_Ir, b_rO, m_O = parts
        return changed.gain(w, a_Ir, b_rO, m_O, scale)

    return jax.lax.map(of_layer, parts)
