"""Several changes over one base: each row is as if its own were merged in."""

import dataclasses

import jax
import numpy as np
import pytest

from genlm.inference import decode
from genlm.inference.sampling import SamplingConfig
from genlm.model import lora, quantized, transformer
from tests.laws import families
from tests.laws.families import FAMILIES, LORA

CONFIGS = (  # of several ranks, scales and targets
    LORA,
    dataclasses.replace(LORA, rank=5, targets=("*/q", "*/down"), rank_stabilised=True),
    dataclasses.replace(LORA, rank=1, dora=True, targets=("*/[qo]",)),
)
ROWS = np.array([2, 0, -1, 1, 2, 0])


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["gemma2_scan", pytest.param("gpt2", marks=pytest.mark.slow)]
)
def test_a_row_is_changed_by_its_own(name: str, bits: int):
    config = FAMILIES[name]
    params, tree = families.weights(config), transformer.param_specs(config)
    if bits:
        params = quantized.quantize(params, tree, bits)
    changes = [families.learnt(params, tree, change) for change in CONFIGS]
    merged = [lora.merge(params, x, c) for x, c in zip(changes, CONFIGS)] + [params]
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, config.vocab_size, 9) for _ in ROWS]
    together = lora.several(params, changes, CONFIGS, ROWS)
    logits = families.logits(config, families.alone(texts, 9), together)
    for row, (text, which) in enumerate(zip(texts, ROWS)):
        batch = families.alone([text], 9)
        alone = families.logits(config, batch, merged[which])
        np.testing.assert_allclose(logits[row], alone[0], atol=3e-5)
    assert np.abs(logits[0] - logits[1]).max() > 0.1


@pytest.mark.slow
def test_a_row_is_written_as_with_its_own_merged():
    """Cached, at a temperature, and with the draws of its prompt's place."""
    config = FAMILIES["gqa"]
    params, tree = families.weights(config), transformer.param_specs(config)
    changes = [families.learnt(params, tree, change) for change in CONFIGS]
    merged = [lora.merge(params, x, c) for x, c in zip(changes, CONFIGS)] + [params]
    prompts = [[3, 1, 4, 1, 5], [9, 2]]
    how = {"max_tokens": 12, "stop_ids": [7], "pad": 0, "seed": 3}
    how["sampling"] = SamplingConfig(0.5)
    rows = [(i, which) for i in range(2) for which in (0, 1, 2, -1)]
    together = decode.generate(
        lora.several(params, changes, CONFIGS, [which for _, which in rows]),
        config,
        [prompts[i] for i, _ in rows],
        places=[i for i, _ in rows],
        **how,
    )
    for which in (0, 1, 2, -1):
        alone = decode.generate(merged[which], config, prompts, **how)
        own = [x for x, (_, each) in zip(together, rows) if each == which]
        assert [x.tokens for x in own] == [x.tokens for x in alone]
    assert len({tuple(x.tokens) for x in together}) > 4


def test_nobodys_matrix_is_as_it_was():
    params = families.weights(FAMILIES["gqa"])
    assert lora.several(params, [], [], [-1, -1]) == params
    tree = transformer.param_specs(FAMILIES["gqa"])
    change = lora.initial(params, tree, CONFIGS[1], jax.random.key(0))
    held = lora.several(params, [change], [CONFIGS[1]], [0, -1])
    assert held["layers"]["mlp"]["up"] is params["layers"]["mlp"]["up"]
    assert held["layers"]["mlp"]["down"].w is params["layers"]["mlp"]["down"]
