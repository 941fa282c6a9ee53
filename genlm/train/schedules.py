"""SCHEDULES: the learning rate of each step, put together from Optax.

All of them warm up linearly to 1, and are multiples: the optimizer scales them by the
learning rate of each parameter.
"""

import optax

SCHEDULES = ("cosine", "wsd", "linear", "constant", "restarts")


def make_schedule(
    name: str,
    num_steps: int,
    *,
    warmup_steps: int,
    final: float,
    decay_fraction: float,
    num_cycles: int,
) -> optax.Schedule:
    """The schedule `name`, from 1 after the warm-up to `final` at `num_steps`.

    'cosine' is half a turn (arXiv:1608.03983 without restarts), 'restarts' `num_cycles`
    of them, 'linear' a line, 'constant' stays at 1. 'wsd' (warm-up, stable, decay,
    arXiv:2404.06395) stays at 1 until the last `decay_fraction` of the steps, and falls
    in a line: what was trained so far can be trained for longer.
    """
    warmup = min(warmup_steps, max(num_steps - 1, 1))
    rest = max(num_steps - warmup, 1)
    rise = optax.linear_schedule(1 / (warmup + 1), 1.0, warmup)
    if name == "wsd":
        decay = min(max(round(decay_fraction * num_steps), 1), rest)
        fall = optax.linear_schedule(1.0, final, decay)
        return optax.join_schedules(
            [rise, optax.constant_schedule(1.0), fall], [warmup, warmup + rest - decay]
        )
    if name == "restarts":
        num_cycles = min(num_cycles, rest)
        each = rest // num_cycles
        fall = optax.cosine_decay_schedule(1.0, each, final)
        ends = [warmup + each * i for i in range(num_cycles)]
        return optax.join_schedules([rise] + [fall] * num_cycles, ends)
    falls = {
        "cosine": optax.cosine_decay_schedule(1.0, rest, final),
        "linear": optax.linear_schedule(1.0, final, rest),
        "constant": optax.constant_schedule(1.0),
    }
    return optax.join_schedules([rise, falls[name]], [warmup])
