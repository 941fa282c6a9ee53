"""Rotary positions: by hand, and what they are for."""

import jax.numpy as jnp
import numpy as np

from genlm.model import rope


def _turned(x_H: np.ndarray, position: int, theta: float = 100.0) -> np.ndarray:
    turn = rope.rotation(jnp.asarray([[position]]), len(x_H), theta)
    return np.asarray(
        rope.rotate(jnp.asarray(x_H, jnp.float32)[None, None, None], *turn)
    )[0, 0, 0]


def test_a_pair_is_turned_by_its_position_and_frequency():
    # pairs (0, 2) and (1, 3) turn by 1 and 100 ** (-2/4) = 0.1 a position
    turned = _turned(np.asarray([1.0, 1.0, 0.0, 0.0]), position=3)
    expected = [np.cos(3), np.cos(0.3), np.sin(3), np.sin(0.3)]
    np.testing.assert_allclose(turned, expected, atol=1e-6)
    turned = _turned(np.asarray([0.0, 0.0, 1.0, 1.0]), position=3)
    expected = [-np.sin(3), -np.sin(0.3), np.cos(3), np.cos(0.3)]
    np.testing.assert_allclose(turned, expected, atol=1e-6)


def test_position_0_turns_nothing_and_no_position_changes_a_length():
    x_H = np.random.default_rng(0).standard_normal(8)
    np.testing.assert_allclose(_turned(x_H, 0), x_H, atol=1e-6)
    lengths = [np.linalg.norm(_turned(x_H, p)) for p in (1, 50, 1000)]
    np.testing.assert_allclose(lengths, np.linalg.norm(x_H), rtol=1e-5)


def test_a_query_and_a_key_meet_at_their_distance():
    rng = np.random.default_rng(0)
    q_H, k_H = rng.standard_normal((2, 8))
    scores = [_turned(q_H, p + 7) @ _turned(k_H, p) for p in (0, 1, 30, 200)]
    np.testing.assert_allclose(scores, scores[0], atol=1e-4)
    assert abs(_turned(q_H, 8) @ _turned(k_H, 0) - scores[0]) > 1e-2


def test_bfloat16_is_turned_in_float32():
    x_BTNH = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
    turn = rope.rotation(jnp.asarray([[1000]]), 4, 10_000.0)
    turned = rope.rotate(x_BTNH, *turn)
    assert turned.dtype == jnp.bfloat16
    exact = rope.rotate(x_BTNH.astype(jnp.float32), *turn)
    np.testing.assert_array_equal(turned, exact.astype(jnp.bfloat16))
