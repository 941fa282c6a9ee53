"""THE FAMILIES beside their reference: logits, greedy text and files of tiny models
that transformers made (tests/golden/make_families.py)."""

import filecmp
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.inference import decode
from genlm.inference.sampling import SamplingConfig
from genlm.interop import folder, hf_config, weights
from genlm.model import transformer
from genlm.model.config import TransformerConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "families"
NAMES = sorted(p.name for p in GOLDEN.iterdir())
TOLERANCE = 1e-4
every_family = pytest.mark.parametrize("name", NAMES)


def opened(path: Path) -> tuple[dict, TransformerConfig]:
    """The parameters and config of a model in a folder."""
    source = folder.open_folder(path)
    config = TransformerConfig(**hf_config.to_config(source.config))
    return weights.load(source, config), config


def logits_of(params, config: TransformerConfig, tokens, mask) -> np.ndarray:
    """Logits [B, T, V] of rows padded on the left where mask is 0, and 0 there."""
    batch = {
        "tokens": jnp.asarray(tokens, jnp.int32),
        "segments": jnp.asarray(mask, jnp.int32),
        "positions": jnp.asarray(np.maximum(np.cumsum(mask, -1) - 1, 0), jnp.int32),
    }

    @jax.jit
    def forward(params, batch):
        hidden_BTD, _, _ = transformer.apply(params, batch, config)
        return transformer.unembed(params, hidden_BTD, config)

    return np.asarray(forward(params, batch)) * mask[..., None]


def greedy_of(params, config: TransformerConfig, tokens, mask, num: int):
    """The `num` likeliest tokens after each row, one after the other."""
    prompts = [row[seen > 0].tolist() for row, seen in zip(tokens, mask)]
    answers = decode.generate(
        params,
        config,
        prompts,
        sampling=SamplingConfig(temperature=0.0),
        max_tokens=num,
        stop_ids=(),
        pad=0,
    )
    return np.array([a.tokens for a in answers])


def export(path: Path, params, config: TransformerConfig, family: str, **settings):
    """Write a model into the folder `path`."""
    with folder.exporting(path) as partial:
        folder.write_folder(
            partial,
            hf_config.from_config(config, family),
            weights.tensors(params, config, family),
            shapes=weights.shapes(config, family),
            **{"dtype": "float32", **settings},
        )


def require_same_tensors(one: Path, other: Path) -> None:
    """Fail unless two folders hold the same tensors, bit for bit."""
    a, b = folder.open_folder(one), folder.open_folder(other)
    assert a.shapes == b.shapes
    for name in a.shapes:
        np.testing.assert_array_equal(
            a.read(name).view(np.int32), b.read(name).view(np.int32), err_msg=name
        )


@every_family
def test_logits_and_greedy_text_are_those_of_transformers(name: str):
    params, config = opened(GOLDEN / name)
    with np.load(GOLDEN / name / "expected.npz") as file:
        expected = dict(file)
    tokens, mask, logits, greedy = (
        np.concatenate([expected[f"plain.{what}"], expected[f"padded.{what}"]])
        for what in ("tokens", "mask", "logits", "greedy")
    )
    assert mask.min() == 0 and (mask[:2] == 1).all()
    ours = logits_of(params, config, tokens, mask)
    assert np.abs(ours - logits).max() <= TOLERANCE
    answer = greedy_of(params, config, tokens, mask, greedy.shape[1])
    np.testing.assert_array_equal(answer, greedy)


@every_family
def test_import_then_export_is_the_identity(name: str, tmp_path: Path):
    params, config = opened(GOLDEN / name)
    family = hf_config.family_of(config)
    assert family == name.removesuffix("_biases")
    export(tmp_path / "out", params, config, family)
    require_same_tensors(tmp_path / "out", GOLDEN / name)
    params_again, config_again = opened(tmp_path / "out")
    assert config_again == config
    jax.tree.map(np.testing.assert_array_equal, params_again, params)
    # a later export takes the place of an earlier one, and is the same
    export(tmp_path / "again", params_again, config, family)
    export(tmp_path / "out", params_again, config, family)
    for file in (tmp_path / "again").iterdir():
        assert filecmp.cmp(file, tmp_path / "out" / file.name, shallow=False)


@every_family
def test_every_array_is_where_xla_takes_it_over(name: str):
    params, _ = opened(GOLDEN / name)
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == np.float32 and leaf.flags.c_contiguous
        assert leaf.ctypes.data % 64 == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["gpt2", "mixtral"])
def test_shards_of_half_the_size(name: str, dtype: str, tmp_path: Path):
    """The numbers are those nearest, and the shards hold no more than asked."""
    params, config = opened(GOLDEN / name)
    family = hf_config.family_of(config)
    export(tmp_path, params, config, family, dtype=dtype, max_shard_bytes=12_000)
    files = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(files) > 2
    assert all(f.stat().st_size < 12_000 + 4_000 for f in files)  # and its header
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    expected = sum(x.size * 2 for x in jax.tree.leaves(params))
    assert index["metadata"] == {"total_size": expected}
    params_again, config_again = opened(tmp_path)
    assert config_again == config
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a, jnp.dtype(dtype)), b),
        params,
        params_again,
    )


def test_too_large_for_float16(tmp_path: Path):
    params, config = opened(GOLDEN / "gpt2")
    params["final_norm"][0] = 1e6
    with pytest.raises(UserError, match="ln_f.weight has numbers too large"):
        export(tmp_path / "out", params, config, "gpt2", dtype="float16")
    assert not any(tmp_path.iterdir())
