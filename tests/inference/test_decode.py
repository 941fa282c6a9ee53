"""Decoding: all at once, and a token at a time."""

import pytest

from genlm.errors import UserError
from genlm.inference import decode
from genlm.inference.sampling import SamplingConfig
from tests.laws.families import FAMILIES, weights

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
STOPS = (7, 11)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "family", ["gqa", pytest.param("gemma2", marks=pytest.mark.slow)]
)
def test_a_stream_is_what_is_generated_at_once(family: str, temperature: float):
    config = FAMILIES[family]
    lengths = set()
    for seed in range(6):
        settings = {
            "max_tokens": 24,
            "stop_ids": STOPS,
            "pad": 0,
            "sampling": SamplingConfig(temperature),
            "seed": seed,
        }
        whole = decode.generate(weights(config), config, [PROMPT], **settings)[0]
        parts = list(decode.stream(weights(config), config, PROMPT, **settings))
        assert parts == whole.tokens and not set(parts) & set(STOPS)
        lengths.add(len(parts))
    assert temperature == 0 or min(lengths) < 24  # a STOP was met


def test_a_model_of_learned_positions_says_how_many_it_knows():
    config = FAMILIES["gpt2"]
    room = config.max_length - len(PROMPT)
    settings = {"stop_ids": STOPS, "pad": 0, "sampling": SamplingConfig(0)}
    answer = decode.generate(
        weights(config), config, [PROMPT], max_tokens=room, **settings
    )
    assert answer[0].tokens
    for ask in (
        decode.generate,
        lambda p, c, ids, **k: list(decode.stream(p, c, ids[0], **k)),
    ):
        with pytest.raises(UserError, match=f"knows {config.max_length} positions"):
            ask(weights(config), config, [PROMPT], max_tokens=room + 1, **settings)
