"""DECODING: prompts of ids -> answers of ids, token by token until STOP.

Before: prompts. After: tokenizer.decode. Prompts are padded on the left to one length
and read at once (prefill), each once however many answers it gets; then a compiled loop
draws a token a turn until every row has met a STOP or the room is used up.
"""

import dataclasses
import functools
from typing import Any, Iterator, NamedTuple, Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from genlm.errors import UserError
from genlm.inference.sampling import SamplingConfig, sample
from genlm.model import transformer
from genlm.model.cache import Cache
from genlm.model.config import TransformerConfig
from genlm.parallel import hosts


class Answer(NamedTuple):
    """What one prompt was answered: ids without STOP, a log-probability each (STOP's
    is the last where there is one), why it ended: 'stop' or 'length', and the id that
    it stopped with."""

    tokens: list[int]
    logprobs: list[float]
    stop_reason: str
    stop: int | None = None


@struct.dataclass
class DecodeState:
    """What the loop carries. M is the most tokens an answer may have."""

    turn: jax.Array  # scalar int32: tokens drawn so far
    first_B: jax.Array  # the position of the first
    tokens_BM: jax.Array
    logprobs_BM: jax.Array
    lengths_B: jax.Array  # tokens of each answer, STOP counted
    done_B: jax.Array
    cache: Cache  # of all tokens but the last


def generate(
    params: Any,
    config: TransformerConfig,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop_ids: Sequence[int],
    pad: int,
    sampling: SamplingConfig = SamplingConfig(),
    seed: int = 0,
    places: Sequence[int] | None = None,
    slots: int = 0,
    count: int = 1,
) -> list[Answer]:
    """An answer for each prompt, or `count` one after another; it depends on the seed
    and its own place in what is returned, not on the other prompts.

    Args:
      places: other places than 0, 1, ...; rows of one place draw the same.
      slots: of a prompt at least, so that prompts of other lengths compile nothing.

    Raises:
      UserError: a prompt is empty, max_tokens is not positive, or the model has not
        learnt so many positions.
    """
    check(config, prompts, max_tokens)
    if places is None:
        places = range(len(prompts) * count)
    state = _decode(
        params,
        pad_left(prompts, pad, slots),
        jax.device_get(_keys(seed, places)),
        np.asarray(stop_ids, np.int32),
        config,
        sampling,
        max_tokens,
        count,
    )
    tokens, logprobs, lengths = hosts.fetch(
        (state.tokens_BM, state.logprobs_BM, state.lengths_B)
    )
    stops = set(stop_ids)
    answers = []
    for row, scores, length in zip(tokens, logprobs, lengths):
        ids = row[:length].tolist()
        stopped = bool(ids) and ids[-1] in stops
        answers.append(
            Answer(
                ids[:-1] if stopped else ids,
                scores[:length].tolist(),
                "stop" if stopped else "length",
                ids[-1] if stopped else None,
            )
        )
    return answers


def stream(
    params: Any,
    config: TransformerConfig,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    stop_ids: Sequence[int],
    pad: int,
    sampling: SamplingConfig = SamplingConfig(),
    seed: int = 0,
) -> Iterator[int]:
    """The ids that `generate` would answer one prompt with, each as it is drawn.

    Raises:
      UserError: as `generate`.
    """
    check(config, [prompt], max_tokens)
    keys, stops = _keys(seed, [0]), jnp.asarray(stop_ids)
    read = pad_left([prompt], pad)
    state = _begin(params, read, keys, stops, config, sampling, max_tokens, 1)
    for turn in range(max_tokens):
        if turn:
            state = _go_on(params, state, keys, stops, turn + 1, config, sampling)
        token = int(state.tokens_BM[0, turn])
        if state.done_B[0]:
            return
        yield token


def check(
    config: TransformerConfig, prompts: Sequence[Sequence[int]], max_tokens: int
) -> None:
    """Make sure that `generate` can answer these prompts.

    Raises:
      UserError: as `generate`.
    """
    if max_tokens < 1:
        raise UserError(f"max_tokens {max_tokens} is not positive")
    if any(len(p) == 0 for p in prompts):
        raise UserError("a prompt is empty")
    longest = max(map(len, prompts)) + max_tokens
    if config.positions == "learned" and longest > config.max_length:
        raise UserError(
            f"prompt and answer may have {longest} tokens together, and this model"
            f" knows {config.max_length} positions; ask for fewer tokens"
        )


def _keys(seed: int, places: Sequence[int]) -> jax.Array:
    """A key for each row, of the seed and its place alone."""
    key = functools.partial(jax.random.fold_in, jax.random.PRNGKey(seed))
    return jax.vmap(key)(jnp.asarray(places))


def require_memory(
    config: TransformerConfig, prompts: Sequence[Sequence[int]], max_tokens: int
) -> None:
    """Make sure that there is room for the cache of `generate`.

    Raises:
      UserError: there is not.
    """
    B, T = pad_left(prompts, 0)["tokens"].shape
    hosts.require_memory(
        jax.eval_shape(lambda: transformer.empty_cache(config, B, T + max_tokens)),
        f"the keys and values of {max_tokens} tokens for {B} prompt(s)",
        "ask for fewer tokens",
    )


def pad_left(
    prompts: Sequence[Sequence[int]], pad: int, slots: int = 0
) -> dict[str, np.ndarray]:
    """tokens, segments and positions [B, T] of prompts; T is a power of two from 16 up
    that takes all of them, and `slots`, so that few lengths are compiled."""
    longest = max(slots, *(len(p) for p in prompts))
    T = max(16, 1 << (longest - 1).bit_length())
    tokens = np.full((len(prompts), T), pad, np.int32)
    segments = np.zeros_like(tokens)
    positions = np.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        n = len(prompt)
        tokens[row, T - n :] = prompt
        segments[row, T - n :] = 1
        positions[row, T - n :] = np.arange(n)
    return {"tokens": tokens, "segments": segments, "positions": positions}


def prefill(
    params: Any, batch: dict[str, jax.Array], config: TransformerConfig, slots: int
) -> tuple[jax.Array, Cache]:
    """Logits_BV after each prompt, and the cache [slots] that holds it."""
    cache = transformer.empty_cache(config, batch["tokens"].shape[0], slots)
    hidden_BTD, _, filled = transformer.apply(params, batch, config, cache=cache)
    assert filled is not None
    logits_BV = transformer.unembed(params, hidden_BTD[:, -1], config)
    return logits_BV, filled


_STATIC = ("config", "sampling", "max_tokens", "count")


@functools.partial(jax.jit, static_argnames=_STATIC)
def _decode(params, batch, keys_B, stop_ids, config, sampling, max_tokens, count):
    state = _begin(params, batch, keys_B, stop_ids, config, sampling, max_tokens, count)
    return _go_on(params, state, keys_B, stop_ids, max_tokens, config, sampling)


@functools.partial(jax.jit, static_argnames=_STATIC)
def _begin(params, batch, keys_B, stop_ids, config, sampling, max_tokens, count):
    """The state after the first token of `count` answers to each prompt, with room for
    `max_tokens`."""
    slots = batch["tokens"].shape[1] + max_tokens - 1
    logits_PV, cache = prefill(params, batch, config, slots)
    first_B, logits_BV = (
        jnp.repeat(x, count, axis=0) for x in (batch["positions"][:, -1] + 1, logits_PV)
    )
    cache = cache.repeated(count)
    B = first_B.shape[0]
    state = DecodeState(
        turn=jnp.zeros((), jnp.int32),
        first_B=first_B,
        tokens_BM=jnp.zeros((B, max_tokens), jnp.int32),
        logprobs_BM=jnp.zeros((B, max_tokens), jnp.float32),
        lengths_B=jnp.zeros(B, jnp.int32),
        done_B=jnp.zeros(B, bool),
        cache=cache,
    )
    return _drawn(state, logits_BV, keys_B, stop_ids, sampling)


def _drawn(state, logits_BV, keys_B, stop_ids, sampling):
    """The state with a token more in each row."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, state.turn)
    ids_B, logprobs_B = sample(logits_BV, keys, sampling)
    return dataclasses.replace(
        state,
        turn=state.turn + 1,
        tokens_BM=state.tokens_BM.at[:, state.turn].set(ids_B),
        logprobs_BM=state.logprobs_BM.at[:, state.turn].set(logprobs_B),
        lengths_B=state.lengths_B + ~state.done_B,
        done_B=state.done_B | jnp.isin(ids_B, stop_ids),
    )


@functools.partial(
    jax.jit, static_argnames=("config", "sampling"), donate_argnames="state"
)
def _go_on(params, state, keys_B, stop_ids, until, config, sampling):
    """The state after `until` tokens, or as soon as every row has met a STOP."""

    def going(state):
        return (state.turn < until) & ~jnp.all(state.done_B)

    def turn(state):
        last = state.turn - 1
        ids_B1 = jax.lax.dynamic_slice_in_dim(state.tokens_BM, last, 1, axis=1)
        column = {
            "tokens": ids_B1,
            "segments": jnp.ones_like(ids_B1),
            "positions": (state.first_B + last)[:, None],
        }
        hidden_BTD, _, cache = transformer.apply(
            params, column, config, cache=state.cache
        )
        logits_BV = transformer.unembed(params, hidden_BTD[:, 0], config)
        state = dataclasses.replace(state, cache=cache)
        return _drawn(state, logits_BV, keys_B, stop_ids, sampling)

    return jax.lax.while_loop(going, turn, state)
