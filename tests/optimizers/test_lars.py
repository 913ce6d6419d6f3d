"""LARS, against its formula in NumPy, alone and under a strategy."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.jobs import make_mlp, make_rows, weights_of

import tfdist
from tfdist.optimizers import LARS, WarmUp

pytestmark = pytest.mark.core

# Rates that float32 holds exactly: Keras' SGD rounds its momentum there, also in float64.
RATE, MOMENTUM = 0.5, 0.875
SHAPES = {"conv": (3, 3, 2, 4), "dense": (5, 3), "head": (3, 2), "bias": (3,), "dead": (2, 2)}


def make_weights():
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    weights["dead"] *= 0
    return weights


def make_gradients(steps=5):
    random = np.random.default_rng(1)
    gradients = [{name: random.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(steps)]
    gradients[2]["dense"] *= 0
    return gradients


def norm(array):
    return np.sqrt((array**2).sum())


def oracle(
    weights, steps, *, decay=0.0, trust=0.001, epsilon=1e-9, nesterov=False, plain=(), rate=RATE, clip=lambda g: g
):
    """LARS in NumPy, weight by weight; a `rate` may be a function of the step."""
    weights, velocities = dict(weights), {name: 0.0 for name in weights}
    for step, gradients in enumerate(steps):
        now = rate(step) if callable(rate) else rate
        for name, w in weights.items():
            g = clip(gradients[name])
            if w.ndim > 1 and name not in plain:
                used = norm(w) > 0 and norm(g) > 0
                ratio = trust * norm(w) / (norm(g) + decay * norm(w) + epsilon) if used else 1.0
                g = ratio * (g + decay * w)
            velocities[name] = MOMENTUM * velocities[name] - now * g
            weights[name] = w + (MOMENTUM * velocities[name] - now * g if nesterov else velocities[name])
    return weights


def run(optimizer, weights, steps, *, compiled=False):
    """Applies the gradients of each step; returns the weights by name."""
    variables = {name: keras.Variable(value, name=name) for name, value in weights.items()}
    optimizer.build(list(variables.values()))

    def apply(gradients):
        optimizer.apply([gradients[name] for name in variables], list(variables.values()))

    apply = tf.function(apply, jit_compile=True) if compiled else apply
    for gradients in steps:
        apply({name: tf.constant(g, keras.config.floatx()) for name, g in gradients.items()})
    return {name: variable.numpy() for name, variable in variables.items()}


def assert_same(found, expected, **tolerance):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_several_steps_are_those_of_the_paper(nesterov, compiled):
    optimizer = LARS(RATE, MOMENTUM, 0.01, 0.02, 1e-3, nesterov, "head")
    found = run(optimizer, make_weights(), make_gradients(), compiled=compiled)
    expected = oracle(
        make_weights(), make_gradients(), decay=0.01, trust=0.02, epsilon=1e-3, nesterov=nesterov, plain=("head",)
    )
    assert_same(found, expected, rtol=1e-10, atol=1e-12)


def test_single_precision_agrees_within_rounding():
    found = run(LARS(RATE, MOMENTUM, 0.01), make_weights(), make_gradients(), compiled=True)
    assert_same(found, oracle(make_weights(), make_gradients(), decay=0.01), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_without_momentum_the_length_of_a_step_follows_the_weight_not_the_gradient():
    before = make_weights()
    after = run(
        LARS(RATE, 0.0, trust_coefficient=0.02, epsilon=0),
        before,
        [{name: 1e6 * g for name, g in make_gradients()[0].items()}],
    )
    for name in ("conv", "dense", "head"):
        assert norm(after[name] - before[name]) == pytest.approx(RATE * 0.02 * norm(before[name]), rel=1e-9)


@pytest.mark.usefixtures("float64")
def test_biases_and_named_weights_get_the_step_of_sgd():
    lars = run(
        LARS(RATE, MOMENTUM, 0.1, exclude_from_layer_adaptation=["^de", "hea"]), make_weights(), make_gradients()
    )
    sgd = run(keras.optimizers.SGD(RATE, MOMENTUM), make_weights(), make_gradients())
    for name in SHAPES:
        assert np.array_equal(lars[name], sgd[name]) == (name != "conv")


@pytest.mark.usefixtures("float64")
def test_clipping_comes_before_the_ratio():
    def clip(g):
        return g * min(1.0, 0.5 / norm(g)) if norm(g) else g

    found = run(LARS(RATE, MOMENTUM, 0.01, epsilon=0.1, clipnorm=0.5), make_weights(), make_gradients())
    expected = oracle(make_weights(), make_gradients(), decay=0.01, epsilon=0.1, clip=clip)
    assert_same(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_schedule_gives_the_rate_of_each_step():
    found = run(LARS(WarmUp(RATE, steps=4), MOMENTUM), make_weights(), make_gradients())
    expected = oracle(make_weights(), make_gradients(), rate=lambda step: RATE * min(step / 4, 1))
    assert_same(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_accumulated_gradients_are_averaged_before_the_ratio():
    micro = make_gradients(6)
    mean = [{name: (a[name] + b[name]) / 2 for name in SHAPES} for a, b in zip(micro[::2], micro[1::2], strict=True)]
    found = run(LARS(RATE, MOMENTUM, 0.01, gradient_accumulation_steps=2), make_weights(), micro)
    assert_same(found, oracle(make_weights(), mean, decay=0.01), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_the_moving_average_is_of_the_weights_after_each_step():
    steps = make_gradients(3)
    found = run(LARS(RATE, MOMENTUM, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3), make_weights(), steps)
    each = [oracle(make_weights(), steps[: count + 1]) for count in range(3)]
    expected = {name: 0.75 * (0.75 * each[0][name] + 0.25 * each[1][name]) + 0.25 * each[2][name] for name in SHAPES}
    assert_same(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_sparse_gradient_counts_as_the_dense_one():
    weights = {"dense": make_weights()["dense"]}
    rows, values = np.array([1, 3, 1]), np.random.default_rng(2).normal(size=(3, 3))
    dense = np.zeros((5, 3))
    np.add.at(dense, rows, values)
    variable = keras.Variable(weights["dense"])
    LARS(RATE, MOMENTUM, 0.01).apply([tf.IndexedSlices(tf.constant(values), tf.constant(rows), [5, 3])], [variable])
    expected = oracle(weights, [{"dense": dense}], decay=0.01)
    assert_same({"dense": variable.numpy()}, expected, rtol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_that_share_the_gradient_make_the_steps_of_one_device(make_strategy, replicas):
    strategy = make_strategy(replicas)
    with strategy.scope():
        variables = {name: keras.Variable(value, name=name) for name, value in make_weights().items()}
        optimizer = LARS(RATE, MOMENTUM, 0.01, exclude_from_layer_adaptation=["head"], clipnorm=1.0)
        optimizer.build(list(variables.values()))

    @tf.function
    def step(gradients):
        def replica_step(gradients):
            shares = [gradients[name] / replicas for name in variables]
            tfdist.apply_gradients(optimizer, shares, list(variables.values()))

        strategy.run(replica_step, args=(gradients,))

    for gradients in make_gradients():
        step({name: tf.constant(g) for name, g in gradients.items()})
    optimizer = LARS(RATE, MOMENTUM, 0.01, exclude_from_layer_adaptation=["head"], clipnorm=1.0)
    expected = run(optimizer, make_weights(), make_gradients())
    for name, variable in variables.items():
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy.numpy(), expected[name], rtol=1e-12, err_msg=name)


def lamb(weights, steps, *, epsilon, beta_1, beta_2):
    """LAMB in NumPy, without weight decay: algorithm 2 of You et al. 2020 (arXiv:1904.00962), its phi the identity."""
    weights, first, second = dict(weights), dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 0.0)
    for step, gradients in enumerate(steps, start=1):
        for name, g in gradients.items():
            first[name] = beta_1 * first[name] + (1 - beta_1) * g
            second[name] = beta_2 * second[name] + (1 - beta_2) * g**2
            r = first[name] / (1 - beta_1**step) / (np.sqrt(second[name] / (1 - beta_2**step)) + epsilon)
            usable = norm(weights[name]) > 0 and norm(r) > 0
            weights[name] = weights[name] - RATE * (norm(weights[name]) / norm(r) if usable else 1.0) * r
    return weights


@pytest.mark.usefixtures("float64")
def test_on_two_replicas_lamb_of_keras_makes_the_steps_of_the_paper(make_strategy):
    # Keras rounds the betas to float32, and these are exact there.
    numbers = {"epsilon": 1e-6, "beta_1": 0.875, "beta_2": 0.96875}
    strategy = make_strategy(2)
    with strategy.scope():
        variables = {name: keras.Variable(value, name=name) for name, value in make_weights().items()}
        optimizer = keras.optimizers.Lamb(RATE, **numbers)
        optimizer.build(list(variables.values()))

    @tf.function
    def step(gradients):
        def replica_step(gradients):
            # Unequal shares of one gradient.
            part = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = tf.where(tf.equal(part, 0), tf.constant(0.25, tf.float64), 0.75)
            tfdist.apply_gradients(optimizer, [gradients[name] * share for name in variables], [*variables.values()])

        strategy.run(replica_step, args=(gradients,))

    for gradients in make_gradients():
        step({name: tf.constant(g) for name, g in gradients.items()})
    expected = lamb(make_weights(), make_gradients(), **numbers)
    for name, variable in variables.items():
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy.numpy(), expected[name], rtol=1e-10, err_msg=name)


def test_the_arguments_make_the_same_optimizer_again():
    optimizer = LARS(
        WarmUp(0.5, steps=3),
        momentum=0.5,
        weight_decay=0.01,
        trust_coefficient=0.02,
        epsilon=1e-3,
        nesterov=True,
        exclude_from_layer_adaptation=["a", "b$"],
        global_clipnorm=2.0,
        use_ema=True,
        ema_momentum=0.5,
        name="layerwise",
    )
    config = optimizer.get_config()
    assert config["weight_decay"] == 0.01 and config["exclude_from_layer_adaptation"] == ["a", "b$"]
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is LARS
    assert again.get_config() == config == LARS.from_config(optimizer.get_config()).get_config()


def test_a_saved_model_goes_on_with_its_velocities(tmp_path):
    keras.utils.clear_session()  # So that the layers are called dense and dense_1.
    x, y = make_rows()
    model = make_mlp(
        LARS(
            0.5, weight_decay=0.01, trust_coefficient=0.1, exclude_from_layer_adaptation=["dense_1/kernel|dense/kernel"]
        )
    )
    model.fit(x, y, batch_size=103, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    before = weights_of(model)
    for one in (model, loaded):
        one.fit(x, y, batch_size=103, epochs=3, shuffle=False, verbose=0)
    assert not np.array_equal(before, weights_of(model))
    np.testing.assert_array_equal(weights_of(loaded), weights_of(model))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_decay": -1}, "LARS: weight_decay is -1. Use a finite number from 0."),
        ({"weight_decay": None}, "LARS: weight_decay is None. Use a finite number from 0."),
        ({"trust_coefficient": "a"}, "LARS: trust_coefficient is 'a'. Use a finite number from 0."),
        ({"epsilon": float("inf")}, "LARS: epsilon is inf. Use a finite number from 0."),
        (
            {"exclude_from_layer_adaptation": ["(a"]},
            "LARS: exclude_from_layer_adaptation has '(a': missing ), unterminated subpattern at position 0. "
            "Use regular expressions.",
        ),
    ],
)
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(ValueError) as caught:
        LARS(0.1, **arguments)
    assert str(caught.value) == message


def test_an_argument_that_keras_does_not_know_is_refused():
    with pytest.raises(ValueError, match="trust_coeficient"):
        LARS(0.1, trust_coeficient=0.1)


def test_a_pattern_that_matches_nothing_is_refused():
    message = (
        "LARS: exclude_from_layer_adaptation has 'gama', which matches none of the variables a, b. "
        "Correct it or leave it out."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        LARS(0.1, exclude_from_layer_adaptation=["a", "gama"]).build(
            [keras.Variable([1.0], name="a"), keras.Variable([1.0], name="b")]
        )


def test_keras_way_of_excluding_weight_decay_is_refused_by_name():
    with pytest.raises(ValueError, match=r"var_names=\['bias'\].*Name the variables in exclude_from_layer_adaptation"):
        LARS(0.1).exclude_from_weight_decay(var_names=["bias"])
