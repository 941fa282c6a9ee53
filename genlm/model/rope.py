"""ROTARY POSITIONS: a query and a key meet at their distance.

https://arxiv.org/abs/2104.09864, with the halves of a head rotated against each other
(the order of Llama in Hugging Face's files).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from genlm.parallel.sharding import platform

SCALINGS = ("none", "linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the angles are shrunk for texts longer than those trained on.

    'linear' (arXiv:2306.15595): all by `factor`. 'llama3' (section 3.2.3 of
    arXiv:2407.21783, as in its reference code): those that turn less than `low` times
    in `original_length` positions by `factor`, those that turn more than `high` times
    not at all, and between them in between. 'yarn' (arXiv:2309.00071): likewise, along
    the dims, with cosine and sine longer by 0.1 ln(factor) + 1.
    """

    kind: str = "none"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original_length: int = 0

    @property
    def length(self) -> float:
        """Of what cosine and sine are multiplied with."""
        is_longer = self.kind == "yarn" and self.factor > 1
        return 0.1 * math.log(self.factor) + 1 if is_longer else 1.0

    def frequencies(self, head_dim: int, theta: float) -> np.ndarray:
        """Radians a position [head_dim / 2], float32."""
        plain = theta ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
        plain = plain.astype(np.float32)
        if self.kind == "linear":
            return plain / np.float32(self.factor)
        if self.kind == "llama3":
            turns = self.original_length * plain / (2 * np.pi)
            kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        else:
            first, last = (
                head_dim
                * math.log(self.original_length / (turns * 2 * math.pi))
                / (2 * math.log(theta))
                for turns in (self.high, self.low)
            )
            first, last = max(math.floor(first), 0), min(math.ceil(last), head_dim - 1)
            dims = np.arange(head_dim // 2, dtype=np.float32)
            kept = 1 - np.clip((dims - first) / max(last - first, 1e-3), 0, 1)
        kept = kept.astype(np.float32)
        return plain * kept + plain / np.float32(self.factor) * (1 - kept)


def rotation(
    positions_BT: jax.Array, head_dim: int, theta: float, scaling: Scaling = Scaling()
) -> tuple[jax.Array, jax.Array]:
    """cos and sin [B, T, 1, H/2] of the angles of `positions_BT`."""
    if scaling.kind == "none":
        frequency = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    else:
        frequency = jnp.asarray(scaling.frequencies(head_dim, theta))
    angle = positions_BT[..., None, None].astype(jnp.float32) * frequency
    if platform() != "cpu":
        cos, sin = jnp.cos(angle), jnp.sin(angle)
    else:
        # A loop of two, whose result is kept: XLA thinks a cosine cheap, and on a CPU
        # would compute it again for every head of every layer, a tenth of the whole
        # step.
        cos, sin = jax.lax.map(
            lambda is_sin: jnp.where(is_sin, jnp.sin(angle), jnp.cos(angle)),
            jnp.array([False, True]),
        )
    if scaling.length == 1:
        return cos, sin
    return cos * scaling.length, sin * scaling.length


def rotate(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x with each pair (i, i + H/2) of its last dim turned by its position's angle."""
    a, b = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return turned.astype(x_BTNH.dtype)
