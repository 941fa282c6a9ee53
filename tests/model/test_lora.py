"""LoRA: what a change does to each matrix, and what cannot be changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.model import layers, lora, transformer
from genlm.model.config import TransformerConfig
from genlm.model.lora import LoraConfig
from genlm.parallel import specs

MODEL = TransformerConfig(
    vocab_size=11,
    max_length=8,
    num_layers=2,
    model_dim=12,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    mlp_dim=10,
    tie_embeddings=False,
    use_bias=True,
)
EXPERTS = TransformerConfig(
    **{**MODEL.__dict__, "use_bias": False, "num_experts": 3, "experts_per_token": 2}
)
SIDES = {  # path -> (rows, columns), as x · w has them
    "layers/attention/q": (12, 24),
    "layers/attention/k": (12, 12),
    "layers/attention/v": (12, 12),
    "layers/attention/o": (24, 12),
    "layers/mlp/up": (12, 10),
    "layers/mlp/gate": (12, 10),
    "layers/mlp/down": (10, 12),
}
PARAMS = specs.initialize(transformer.param_specs(MODEL), jax.random.key(0))


def change_of(config: LoraConfig, seed: int = 1) -> dict:
    """A change of MODEL whose numbers are all random."""
    tree = lora.lora_specs(transformer.param_specs(MODEL), config)
    shapes, key = specs.shapes(tree), jax.random.key(seed)
    return jax.tree.map(lambda x: jax.random.normal(key, x.shape), shapes)


def at(tree: dict, path: str):
    for name in path.split("/"):
        tree = tree[name]
    return tree


@pytest.mark.parametrize("path", SIDES)
def test_rows_are_what_a_matrix_reads(path: str):
    config = LoraConfig(rank=3, alpha=1.0, targets=(path,))
    tree = lora.lora_specs(transformer.param_specs(MODEL), config)
    rows, columns = SIDES[path]
    shapes = {n: spec.shape for n, spec in lora.factors(tree)[path].items()}
    assert len(lora.factors(tree)) == 1
    assert shapes == {"a": (2, rows, 3), "b": (2, 3, columns)}


@pytest.mark.parametrize("is_stabilised", [False, True])
@pytest.mark.parametrize("path", SIDES)
def test_a_merged_matrix_is_x_w_and_x_a_b(path: str, is_stabilised: bool):
    """As the layer itself multiplies: heads of attention's output are two dims."""
    config = LoraConfig(4, 6.0, (path,), is_stabilised)
    assert config.scale == (3.0 if is_stabilised else 1.5)
    change = change_of(config)
    merged = lora.merge(PARAMS, change, config)
    rows, columns = SIDES[path]
    dims = (4, 6) if path.endswith("/o") else (rows,)
    for layer in range(2):
        x = jax.random.normal(jax.random.key(2), (5, rows))
        w, new_w = (at(tree, path)[layer] for tree in (PARAMS, merged))
        y, new_y = (
            layers.dense(
                x.reshape(1, 5, *dims), matrix, "float32", contract=len(dims)
            ).reshape(5, columns)
            for matrix in (w, new_w)
        )
        a, b = (at(change, path)[name][layer] for name in "ab")
        np.testing.assert_allclose(
            new_y - y, config.scale * (x @ a) @ b, atol=1e-4, rtol=1e-4
        )


def test_only_targets_change():
    config = LoraConfig(2, 2.0, ("*/v", "layers/mlp/*"))
    merged = lora.merge(PARAMS, change_of(config), config)
    changed = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, is_same in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda a, b: bool((a == b).all()), PARAMS, merged)
        )
        if not is_same
    }
    assert changed == {"layers/attention/v"} | {p for p in SIDES if "/mlp/" in p}


def test_a_fresh_change_changes_nothing():
    """b is 0, and a is not, or no gradient would reach either."""
    config = LoraConfig(2, 16.0, ("layers/*/?", "layers/mlp/*"))
    tree = lora.lora_specs(transformer.param_specs(MODEL), config)
    change = specs.initialize(tree, jax.random.key(3))
    found = lora.factors(change)
    assert found.keys() == SIDES.keys()
    assert all(x["a"].all() and not x["b"].any() for x in found.values())
    jax.tree.map(
        np.testing.assert_array_equal, lora.merge(PARAMS, change, config), PARAMS
    )


def test_a_change_is_learnt_alone():
    """Gradients reach both factors through `merge` under jit."""
    config = LoraConfig(2, 2.0, ("layers/attention/q",))
    change = change_of(config)
    batch = {
        "tokens": jnp.arange(8)[None],
        "segments": jnp.ones((1, 8), jnp.int32),
        "positions": jnp.arange(8)[None],
    }

    @jax.jit
    def loss(change):
        params = lora.merge(PARAMS, change, config)
        hidden, _, _ = transformer.apply(params, batch, MODEL)
        return transformer.unembed(params, hidden, MODEL).std()

    slope = jax.grad(loss)(change)
    for name, place in {"a": (1, 2, 1), "b": (1, 1, 3)}.items():
        of_q = at(slope, "layers/attention/q")[name]
        assert of_q.any()

        def moved(by: float) -> dict:
            q = dict(at(change, "layers/attention/q"))
            q[name] = q[name].at[place].add(by)
            return {"layers": {"attention": {"q": q}}}

        measured = (loss(moved(1e-2)) - loss(moved(-1e-2))) / 2e-2
        np.testing.assert_allclose(of_q[place], measured, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize(
    "target",
    [
        "embedding",
        "unembedding",
        "layers/attention_norm",
        "layers/attention/q_bias",
        "layers/mlp/down_bias",
        "layers/attention/z",
        "*norm*",
    ],
)
def test_what_is_no_matrix_of_a_block(target: str):
    with pytest.raises(UserError, match=r"matches none of layers/.*/q, "):
        change_of(LoraConfig(2, 2.0, ("layers/attention/q", target)))


@pytest.mark.parametrize("name", ["up", "gate", "down", "router"])
def test_experts_are_not_changed(name: str):
    tree = transformer.param_specs(EXPERTS)
    assert name in tree["layers"]["mlp"]
    with pytest.raises(UserError, match="matches none of"):
        lora.lora_specs(tree, LoraConfig(2, 2.0, (f"layers/mlp/{name}",)))
    everything = lora.factors(lora.lora_specs(tree, LoraConfig(2, 2.0, ("*",))))
    assert everything.keys() == {p for p in SIDES if "/attention/" in p}


@pytest.mark.parametrize(
    "rank, alpha", [(0, 1.0), (-1, 1.0), (2, 0.0), (2, -1.0), (2, float("nan"))]
)
def test_no_such_change(rank: int, alpha: float):
    with pytest.raises(UserError, match="lora.rank and alpha are positive"):
        LoraConfig(rank, alpha, ("*",))


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_no_such_dropout(dropout: float):
    with pytest.raises(UserError, match=r"lora.dropout is in \[0, 1\)"):
        LoraConfig(2, 2.0, ("*",), dropout=dropout)
