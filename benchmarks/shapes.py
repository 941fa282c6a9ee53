"""THE SHAPES that are trained, the one batch both sides see, and what a step costs."""

import dataclasses
import math

import numpy as np

from genlm.model import costs


@dataclasses.dataclass(frozen=True)
class Shape:
    """A GPT-2 shape: an mlp of 4 times the width with gelu, biases, tied embeddings.

    Parameters differ in two places: genlm turns queries and keys by their position
    where GPT-2 learns positions, and its norms have no bias and subtract no mean.
    """

    layers: int
    width: int
    heads: int
    length: int
    batch: int
    vocab: int
    microbatches: tuple[int, ...]  # tried by both sides, the fastest kept

    @property
    def name(self) -> str:
        size = f"{self.layers}x{self.width}"
        return f"{size} T={self.length} B={self.batch} V={self.vocab}"

    @property
    def tokens(self) -> int:
        """Tokens a step."""
        return self.batch * self.length

    @property
    def flops(self) -> int:
        """Model operations a step."""
        parameters = self.layers * 12 * self.width**2 + self.vocab * self.width
        head_dim = self.width // self.heads
        return self.tokens * costs.flops_per_token(
            parameters, self.layers, self.heads, head_dim, self.length
        )

    def random_tokens(self) -> np.ndarray:
        """tokens [B, T + 1], inputs and targets; the same in every process."""
        rng = np.random.default_rng(0)
        return rng.integers(self.vocab, size=(self.batch, self.length + 1))

    def loss_is_right(self, first: float, last: float) -> bool:
        """Whether a model began at chance and learnt the batch a little."""
        return abs(first - math.log(self.vocab)) < 0.3 and last < first - 0.01


SHAPES = {
    "4x128": Shape(4, 128, 4, 64, 12, 256, (1,)),
    "6x384": Shape(6, 384, 6, 256, 32, 256, (1, 8)),
    "12x768": Shape(12, 768, 12, 512, 4, 8192, (1, 2)),
}
DEFAULT, FULL = ("4x128", "6x384"), ("4x128", "6x384", "12x768")
