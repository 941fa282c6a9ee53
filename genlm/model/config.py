"""THE SHAPE OF A DECODER: what `transformer` computes, and what real models are of."""

import dataclasses

from genlm.errors import UserError
from genlm.model import layers, rope

REMAT = ("none", "dots", "full")
NORMS = ("rms", "layer")
POSITIONS = ("rotary", "learned")
DISPATCH = ("dense", "grouped", "capacity")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The shape of a decoder and how it is computed."""

    vocab_size: int
    max_length: int  # positions a query sees back; rows are at most this long
    num_layers: int
    model_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int  # of each expert, where there are experts
    activation: str = "swiglu"
    norm: str = "rms"  # or 'layer', with a mean and a bias
    norm_eps: float = 1e-5
    unit_offset: bool = False  # a norm multiplies by 1 + its parameter
    post_norms: bool = False  # what a block adds is normed as well
    use_bias: bool = False  # in attention and mlp
    qkv_bias: bool = False  # of queries, keys and values alone
    qk_norm: bool = False  # queries and keys are normed, a head at a time
    tie_embeddings: bool = True
    embedding_scale: float = 1.0
    dropout: float = 0.0
    embedding_noise: float = 0.0  # alpha of NEFTune: see layers.embedding_noise
    positions: str = "rotary"  # or 'learned', as many as max_length
    rope_theta: float = 10_000.0
    rope_scaling: str = "none"  # see rope.Scaling
    rope_factor: float = 1.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_original_length: int = 0
    layer_pattern: str = "G"  # over the layers, again and again; L: a local one
    window: int = 0  # positions a query sees back in a local layer
    rope_local_theta: float = 0.0  # of local layers, not scaled; 0: as the others
    attention_scale: float = 0.0  # of query times key; 0: 1 / √head_dim
    attention_cap: float = 0.0  # scores stay within ± this; 0: no cap
    logit_cap: float = 0.0
    num_experts: int = 0  # 0: one mlp for all tokens
    experts_per_token: int = 0
    normalize_experts: bool = True  # the chosen experts' shares add up to 1
    expert_dispatch: str = "dense"  # see genlm.model.dispatch
    capacity_factor: float = 1.25  # of 'capacity': 1 where all are chosen alike
    mup_base_width: int = 0  # model_dim of which the learning rate is; 0: no transfer
    dtype: str = "float32"  # of products: 'float32' or 'bfloat16'
    scan_layers: bool = False
    remat: str = "none"  # what the backward pass computes again: 'dots' keeps products

    def __post_init__(self) -> None:
        sizes = "vocab_size max_length num_layers model_dim num_heads head_dim mlp_dim"
        for name in sizes.split():
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is not positive")
        for name, known in {
            "activation": layers.ACTIVATIONS,
            "norm": NORMS,
            "positions": POSITIONS,
            "expert_dispatch": DISPATCH,
            "rope_scaling": rope.SCALINGS,
            "remat": REMAT,
            "dtype": ("float32", "bfloat16"),
        }.items():
            if getattr(self, name) not in known:
                raise UserError(f"not so: model.{name} is one of {known}")
        checks = {
            "num_heads is a multiple of num_kv_heads": self.num_kv_heads > 0
            and self.num_heads % self.num_kv_heads == 0,
            "head_dim is even": self.head_dim % 2 == 0,
            "rope_theta, rope_factor, norm_eps and capacity_factor are positive": min(
                self.rope_theta, self.rope_factor, self.norm_eps, self.capacity_factor
            )
            > 0,
            "dropout is in [0, 1)": 0 <= self.dropout < 1,
            "embedding_noise is 0 or more": self.embedding_noise >= 0,
            "mup_base_width is 0 or more": self.mup_base_width >= 0,
            "layer_pattern is of the letters G and L": self.layer_pattern != ""
            and set(self.layer_pattern) <= set("GL"),
            "window is positive where a layer is local": self.window > 0
            or "L" not in self.kinds,
            "rope_original_length is positive with llama3 and yarn": (
                self.rope_original_length > 0
                or self.rope_scaling not in ("llama3", "yarn")
            ),
            "attention_scale, attention_cap, logit_cap and rope_local_theta are 0 or"
            " more": min(
                self.attention_scale,
                self.attention_cap,
                self.logit_cap,
                self.rope_local_theta,
            )
            >= 0,
            "experts_per_token is from 1 to num_experts": self.num_experts == 0
            or 0 < self.experts_per_token <= self.num_experts,
            "experts have a gate and no bias": self.num_experts == 0
            or (self.activation in layers.GATED and not self.use_bias),
        }
        for rule, kept in checks.items():
            if not kept:
                raise UserError(f"not so: model.{rule}")

    @property
    def kinds(self) -> str:
        """A letter for each layer: G sees all of the text, L its window."""
        pattern = self.layer_pattern
        return (pattern * (self.num_layers // len(pattern) + 1))[: self.num_layers]

    @property
    def without_chance(self) -> "TransformerConfig":
        """As it is measured: what is random in training is left out."""
        return dataclasses.replace(self, dropout=0.0, embedding_noise=0.0)

    @property
    def query_scale(self) -> float:
        """What a query is multiplied with."""
        return self.attention_scale or self.head_dim**-0.5

    @property
    def active_share(self) -> float:
        """Of the experts, those that a token goes through."""
        return self.experts_per_token / self.num_experts if self.num_experts else 1.0

    @property
    def width_ratio(self) -> float:
        """How many times as wide it is as the model that it takes its settings from."""
        return self.model_dim / self.mup_base_width if self.mup_base_width else 1.0
