"""The optimizer: the learning rate by hand, and what decays."""

import dataclasses
import subprocess
import sys

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genlm.errors import UserError
from genlm.model import transformer
from genlm.parallel import specs
from genlm.parallel.specs import ParamSpec
from genlm.train import optimizer, state, step
from genlm.train.optimizer import OptimizerConfig
from tests.command import ROOT, environment
from tests.laws.families import FAMILIES, weights

CONFIG = OptimizerConfig(learning_rate=2.0, warmup_steps=4, final_rate=0.1)


def test_the_learning_rate_warms_up_peaks_and_ends():
    schedule = optimizer.make_schedule(CONFIG, num_steps=24)
    rates = [float(schedule(step)) for step in range(25)]
    # from 2/5 to 2 in four steps, then half a cosine to 0.2 in twenty
    expected = [0.4, 0.8, 1.2, 1.6, 2.0]
    turn = np.pi * np.arange(1, 21) / 20
    expected += (0.2 + 1.8 * (1 + np.cos(turn)) / 2).tolist()
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    np.testing.assert_allclose(rates[14], 1.1, rtol=1e-5)
    np.testing.assert_allclose(schedule(100), 0.2, rtol=1e-5)


def test_no_warm_up_starts_at_the_peak():
    config = dataclasses.replace(CONFIG, warmup_steps=0)
    schedule = optimizer.make_schedule(config, num_steps=10)
    np.testing.assert_allclose(schedule(0), 2.0)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_run_shorter_than_its_warm_up_still_learns(num_steps: int):
    schedule = optimizer.make_schedule(CONFIG, num_steps)
    rates = [float(schedule(step)) for step in range(num_steps + 1)]
    assert 0 < min(rates) and max(rates) <= 2.0


def test_weights_decay_and_norms_and_biases_do_not():
    model = dataclasses.replace(FAMILIES["biases_gelu"], tie_embeddings=False)
    shapes = specs.shapes(transformer.param_specs(model))
    params = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    made = optimizer.make_optimizer(
        dataclasses.replace(CONFIG, weight_decay=0.5),
        24,
        transformer.param_specs(model),
    )
    nothing = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(
        lambda: made.update(nothing, made.init(params), params, step=0)[0]
    )()
    for path, update in traverse_util.flatten_dict(updates, sep="/").items():
        kept = path.endswith(("norm", "bias"))
        # the first rate is 0.4: 0.4 · 0.5 of each weight goes
        np.testing.assert_allclose(update, 0.0 if kept else -0.2, rtol=1e-5)


def test_a_gradient_is_clipped_by_its_norm():
    params = {"w": jnp.zeros(2)}
    config = dataclasses.replace(CONFIG, weight_decay=0.0, epsilon=1.0)
    made = optimizer.make_optimizer(config, 24, {"w": ParamSpec((2,), ("embed",))})
    # of (30, 40) is left (0.6, 0.8): Adam's first update is rate · g / (g + epsilon)
    updates, _ = made.update(
        {"w": jnp.asarray([30.0, 40.0])}, made.init(params), params, step=0
    )
    np.testing.assert_allclose(
        updates["w"], [-0.4 * 0.6 / 1.6, -0.4 * 0.8 / 1.8], rtol=1e-5
    )


MODEL = dataclasses.replace(FAMILIES["biases_gelu"], tie_embeddings=False)
SPECS = transformer.param_specs(MODEL)


def _first_updates(gradients=None, **changes) -> dict[str, np.ndarray]:
    """The first update of each parameter, by path; rate 2, no decay."""
    changes = {"weight_decay": 0.0, "warmup_steps": 0, "clip_norm": 1e9, **changes}
    made = optimizer.make_optimizer(dataclasses.replace(CONFIG, **changes), 24, SPECS)
    params = specs.initialize(SPECS, jax.random.PRNGKey(0))
    if gradients is None:
        gradients = specs.initialize(SPECS, jax.random.PRNGKey(1))
    update = jax.jit(lambda g, p: made.update(g, made.init(p), p, step=0)[0])
    updates = jax.device_get(update(gradients, params))
    return traverse_util.flatten_dict(updates, sep="/")


def test_muon_turns_each_matrix_of_a_block_into_a_near_rotation():
    updates = _first_updates(name="muon")
    adamw = _first_updates(name="adamw")
    D = MODEL.model_dim
    for path in ("attention/q", "attention/o", "mlp/up", "mlp/down"):
        stacked = updates[f"layers/{path}"]
        for layer in stacked:  # independent of the others
            rows = layer.reshape(D, -1) if path[-1] in "qp" else layer.reshape(-1, D)
            values = np.linalg.svd(rows, compute_uv=False)
            # Newton-Schulz leaves singular values within 0.7 and 1.2 of the scale
            scale = 2.0 * 0.2 * max(rows.shape) ** 0.5
            assert 0.65 < values.min() / scale and values.max() / scale < 1.25, path
    for path, update in updates.items():
        if "layers" not in path or path.endswith(("norm", "bias")):
            np.testing.assert_allclose(update, adamw[path], rtol=1e-5)


def test_lion_goes_by_the_sign():
    gradients = specs.initialize(SPECS, jax.random.PRNGKey(1))
    updates = _first_updates(name="lion", rules=("*norm optimizer=frozen",))
    for path, gradient in traverse_util.flatten_dict(gradients, sep="/").items():
        rate = 0.0 if path.endswith("norm") else 2.0
        np.testing.assert_allclose(updates[path], -rate * np.sign(gradient))


def test_adafactor_keeps_rows_and_columns_only():
    model = dataclasses.replace(MODEL, model_dim=256, mlp_dim=512)
    tree = transformer.param_specs(model)
    config = dataclasses.replace(CONFIG, name="adafactor")
    made = optimizer.make_optimizer(config, 24, tree)
    kept = jax.eval_shape(made.init, specs.shapes(tree))
    sizes = sum(x.size for x in jax.tree.leaves(kept))
    assert sizes < 0.2 * specs.count(tree)  # AdamW keeps 2; heads of 16 stay whole
    gradients = specs.initialize(SPECS, jax.random.PRNGKey(1))
    updates = _first_updates(name="adafactor")
    for path, gradient in traverse_util.flatten_dict(gradients, sep="/").items():
        # the first update is of size 1 or less, downhill, where there is a gradient
        assert np.all(updates[path] * gradient <= 0), path
        size = np.sqrt(np.mean(np.square(updates[path])))
        assert (size == pytest.approx(2.0, rel=0.2)) == bool(np.any(gradient)), path


def test_rules_change_the_treatment_of_what_they_match():
    plain = _first_updates()
    rules = ("layers/mlp/* rate=0.5", "embedding optimizer=frozen", "*/up rate=0")
    ruled = _first_updates(rules=rules)
    for path, update in ruled.items():
        share = 0.0 if path in ("embedding", "layers/mlp/up") else 1.0
        if path.startswith("layers/mlp/") and share:
            share = 0.5
        np.testing.assert_allclose(update, share * plain[path], rtol=1e-5)


def test_what_is_frozen_takes_no_part_in_clipping():
    gradients = specs.initialize(SPECS, jax.random.PRNGKey(1))
    rules = ("embedding optimizer=frozen",)
    settings = {"clip_norm": 1e-3, "epsilon": 1.0, "rules": rules}
    small = _first_updates(gradients, **settings)
    large = {**gradients, "embedding": 1e6 * gradients["embedding"]}
    for path, update in _first_updates(large, **settings).items():
        np.testing.assert_array_equal(update, small[path])


@pytest.mark.parametrize(
    "rule, why",
    [
        ("nothing rate=1", "matches none of embedding"),
        ("embedding", "PATTERN key=value"),
        ("", "PATTERN key=value"),
        ("embedding rate=fast", "'fast' is no number"),
        ("embedding rate=-1", "'rate=-1' is none of"),
        ("embedding speed=2", "'speed=2' is none of"),
        ("embedding optimizer=sgd", "optimizers: adamw"),
    ],
)
def test_a_wrong_rule_is_named(rule: str, why: str):
    with pytest.raises(UserError, match=why):
        _first_updates(rules=(rule,))


@pytest.mark.parametrize("pattern", ["final_norm", "layers/*", "*_bias"])
def test_muon_is_for_matrices(pattern: str):
    with pytest.raises(UserError, match="is no matrix"):
        _first_updates(rules=(f"{pattern} optimizer=muon",))


@pytest.mark.slow
def test_a_step_is_the_same_program_in_every_process():
    code = """
import jax
from genlm.parallel import specs
from tests.train.test_optimizer import CONFIG, SPECS, dataclasses, optimizer
rules = ("*/q rate=2", "*/k rate=3", "*/v rate=4", "*/o rate=5", "*/up rate=6")
made = optimizer.make_optimizer(dataclasses.replace(CONFIG, rules=rules), 24, SPECS)
params = specs.shapes(SPECS)
state = jax.eval_shape(made.init, params)
print(jax.jit(made.update).lower(params, state, params, step=0).as_text())
"""
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(PYTHONHASHSEED=seed),
            capture_output=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(texts) == 1


def _rates(schedule: str, num_steps: int = 24, **changes) -> list[float]:
    config = dataclasses.replace(CONFIG, schedule=schedule, **changes)
    made = optimizer.make_schedule(config, num_steps)
    return [float(made(step)) for step in range(num_steps + 1)]


RISE = [0.4, 0.8, 1.2, 1.6, 2.0]


def test_wsd_stays_and_falls_in_a_line_at_the_end():
    rates = _rates("wsd", decay_fraction=0.25)  # the last 6 of 24 steps
    fall = [2.0 - 1.8 * i / 6 for i in range(7)]
    np.testing.assert_allclose(rates, RISE + [2.0] * 13 + fall, rtol=1e-5)


def test_linear_and_constant():
    fall = [2.0 - 1.8 * i / 20 for i in range(1, 21)]
    np.testing.assert_allclose(_rates("linear"), RISE + fall, rtol=1e-5)
    np.testing.assert_allclose(_rates("constant"), RISE + [2.0] * 20, rtol=1e-5)


def test_restarts_begin_again_at_the_peak():
    rates = _rates("restarts", num_cycles=2)
    turn = np.pi * np.arange(10) / 10
    cycle = (0.2 + 1.8 * (1 + np.cos(turn)) / 2).tolist()
    np.testing.assert_allclose(rates, RISE[:4] + cycle * 2 + [0.2], rtol=1e-5)


def _weighted_sum(params, frozen, batch, key):
    """A loss whose gradient is the batch's weights."""
    total = jnp.sum(params["w"] * batch["weights"])
    return total, {"loss": total, "weight": jnp.ones(())}


def test_an_average_of_the_parameters_by_hand():
    tree = {"w": ParamSpec((2,), ("embed",), init="ones")}
    made = optimizer.make_optimizer(CONFIG, 24, tree)

    train_step = jax.jit(
        step.make_train_step(
            _weighted_sum,
            made,
            optimizer.make_schedule(CONFIG, 24),
            ema_decay=0.15,
        )
    )
    now = state.make(tree, made, jnp.zeros((), jnp.int32), ema=True)
    average = np.ones(2)
    for number in range(3):
        now, _ = train_step(now, {"weights": jnp.asarray([1.0, 2.0])}, None)
        kept = [0.1, 0.15, 0.15][number]  # 1 / 10, then 2 / 11 is above 0.15
        average = kept * average + (1 - kept) * np.asarray(now.params["w"])
        np.testing.assert_allclose(now.ema["w"], average, rtol=1e-6)


def test_a_step_that_is_left_out_does_not_hold_the_schedule_up():
    tree = {"w": ParamSpec((1,), ("embed",), init="ones")}
    config = dataclasses.replace(CONFIG, weight_decay=0.0)
    made = optimizer.make_optimizer(config, 24, tree)

    train_step = jax.jit(
        step.make_train_step(
            _weighted_sum,
            made,
            optimizer.make_schedule(config, 24),
            skip_nonfinite=True,
        )
    )
    now = state.make(tree, made, jnp.zeros((), jnp.int32))
    for weight in (np.nan, 1.0):
        before = now.params["w"]
        now, metrics = train_step(now, {"weights": jnp.asarray([weight])}, None)
    # Adam's first update is as large as the rate, here that of the second step
    np.testing.assert_allclose(before - now.params["w"], 0.8, rtol=1e-5)
    np.testing.assert_allclose(metrics["learning_rate"], 0.8, rtol=1e-5)


@pytest.mark.slow
def test_muon_takes_each_expert_for_a_matrix_of_its_own():
    model = FAMILIES["mixtral"]
    tree = transformer.param_specs(model)
    config = OptimizerConfig(learning_rate=1.0, name="muon", clip_norm=1e9)
    made = optimizer.make_optimizer(config, 10, tree)
    params = weights(model)
    gradient = jax.tree.map(jnp.ones_like, params)
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.standard_normal(params["layers"]["mlp"]["up"].shape))
    one = jax.tree.map(lambda x: x, gradient)
    one["layers"]["mlp"]["up"] = noise
    louder = jax.tree.map(lambda x: x, one)
    louder["layers"]["mlp"]["up"] = noise.at[:, 0].multiply(100.0)
    updates = [
        made.update(g, made.init(params), params, step=5)[0]["layers"]["mlp"]["up"]
        for g in (one, louder)
    ]
    # what another expert's gradient is changes nothing
    np.testing.assert_allclose(updates[0][:, 1:], updates[1][:, 1:], rtol=1e-4)
