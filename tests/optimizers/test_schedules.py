"""Warm-up, against the formula in NumPy, inside real optimizers."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.jobs import make_mlp, make_rows, weights_of

from tfdist.optimizers import WarmUp, scale_learning_rate

pytestmark = pytest.mark.core

schedules = keras.optimizers.schedules
STEPS = np.arange(30)


def rates(schedule, steps=STEPS):
    return np.array([float(schedule(tf.constant(step, "int64"))) for step in steps])


def cosine(step, peak=0.4, total=20):
    return peak * 0.5 * (1 + np.cos(np.pi * np.minimum(step, total) / total))


def warmed(after, warmup, start=0.0, steps=STEPS):
    """The oracle: linear from `start` to after(warmup), then `after`, which counts from the beginning."""
    return np.where(steps < warmup, start + (after(warmup) - start) * steps / warmup, after(steps))


def test_a_warmup_rises_linearly_to_the_rate_and_stays():
    expected = [0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    np.testing.assert_allclose(rates(WarmUp(0.4, steps=4), range(7)), expected, rtol=1e-6)


def test_a_warmup_may_start_above_zero():
    expected = [0.1, 0.175, 0.25, 0.325, 0.4, 0.4]
    np.testing.assert_allclose(rates(WarmUp(0.4, steps=4, start=0.1), range(6)), expected, rtol=1e-6)


def test_the_schedule_after_it_counts_from_the_beginning_of_the_run():
    warm = WarmUp(schedules.CosineDecay(0.4, 20), steps=5, start=0.01)
    np.testing.assert_allclose(rates(warm), warmed(cosine, 5, 0.01), rtol=1e-5, atol=1e-8)
    steps_at = schedules.PiecewiseConstantDecay([9, 19], [0.4, 0.04, 0.004])
    np.testing.assert_allclose(
        rates(WarmUp(steps_at, steps=5), [4, 5, 9, 10, 19, 20]), [0.32, 0.4, 0.4, *[0.04] * 2, 0.004]
    )


def test_a_warmup_of_no_steps_changes_nothing():
    after = schedules.CosineDecay(0.4, 20)
    np.testing.assert_array_equal(rates(WarmUp(after, steps=0)), rates(after))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"steps": 7}, 7),
        ({"examples": 6250, "global_batch": 1024}, 7),
        ({"epochs": 1.5, "rows": 103, "global_batch": 25}, 8),
    ],
)
def test_promise_38_a_warmup_takes_steps_examples_or_epochs(length, expected):
    warm = WarmUp(0.4, **length)
    assert warm.warmup_steps == expected
    np.testing.assert_allclose(rates(warm), warmed(lambda step: 0.4 + 0 * step, expected), rtol=1e-6)


def test_promise_38_four_times_the_global_batch_warms_up_in_a_quarter_of_the_steps():
    one, four = (WarmUp(0.4, examples=64_000, global_batch=64 * times) for times in (1, 4))
    assert (one.warmup_steps, four.warmup_steps) == (1000, 250)
    seen = np.arange(0, 70_000, 256)  # the rate is a function of the examples seen
    np.testing.assert_allclose(rates(one, seen // 64), rates(four, seen // 256), rtol=1e-6)


@pytest.mark.parametrize("replicas", [1, 4])
def test_promise_38_the_rate_of_a_run_follows_the_number_of_replicas(make_strategy, replicas):
    strategy = make_strategy(replicas)
    global_batch = 8 * strategy.num_replicas_in_sync
    peak = scale_learning_rate(0.25, global_batch=global_batch, base_batch=8)
    with strategy.scope():
        variable = keras.Variable([1.0])
        optimizer = keras.optimizers.SGD(WarmUp(peak, examples=64, global_batch=global_batch))
        optimizer.build([variable])

    @tf.function
    def step():
        strategy.run(lambda: optimizer.apply([tf.ones([1]) / replicas], [variable]))

    values = [1.0]
    for _ in range(10):
        step()
        values.append(float(variable.numpy()[0]))
    expected = warmed(lambda step: 0.25 * replicas + 0 * step, 8 // replicas, steps=np.arange(10))
    np.testing.assert_allclose(-np.diff(values), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("after", [0.4, schedules.CosineDecay(0.4, 20)], ids=["float", "schedule"])
def test_any_integer_step_works_inside_a_function(dtype, after):
    warm = WarmUp(after, steps=5)
    traced = tf.function(warm, jit_compile=True)
    for step in (0, 3, 5, 12):
        rate = traced(tf.constant(step, dtype))
        assert rate.dtype == "float32" and rate.shape == ()
        np.testing.assert_allclose(rate, warm(step), rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_double_precision_is_kept():
    # Keras' own schedules round some constants to float32, so a schedule is its own oracle here.
    after = schedules.CosineDecay(0.4, 20)
    for one, oracle in ((0.4, lambda step: 0.4 + 0 * step), (after, lambda step: rates(after, np.atleast_1d(step)))):
        warm = WarmUp(one, steps=7, start=0.1)
        assert warm(tf.constant(3)).dtype == "float64"
        np.testing.assert_allclose(rates(warm), warmed(oracle, 7, 0.1), rtol=1e-14)


@pytest.mark.parametrize("floatx", ["float32", "float64"])
def test_sgd_steps_at_the_rates_of_the_warmup(request, floatx):
    if floatx == "float64":
        request.getfixturevalue("float64")
    variable = keras.Variable([0.0])
    optimizer = keras.optimizers.SGD(WarmUp(schedules.CosineDecay(0.4, 20), epochs=1, rows=17, global_batch=4))
    values = [0.0]
    for step in STEPS:
        assert float(optimizer.learning_rate) == pytest.approx(warmed(cosine, 5)[step], rel=1e-5, abs=1e-7)
        optimizer.apply([tf.ones([1], floatx)], [variable])
        values.append(float(variable.numpy()[0]))
    np.testing.assert_allclose(-np.diff(values), warmed(cosine, 5), rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize(
    ("after", "length"),
    [
        (0.4, {"steps": 7}),
        (0.4, {"examples": np.int64(6250), "global_batch": np.int64(1024), "start": 0.01}),
        (schedules.CosineDecay(0.4, 20), {"epochs": 1.5, "rows": 103, "global_batch": 25}),
        (WarmUp(0.4, steps=3), {"epochs": 2, "rows": 10, "global_batch": 5}),
    ],
)
def test_a_warmup_is_serialized_and_made_again(after, length):
    warm = WarmUp(after, **length)
    again = schedules.deserialize(schedules.serialize(warm))
    assert type(again) is WarmUp and again.warmup_steps == warm.warmup_steps
    assert json.loads(json.dumps(warm.get_config())) == warm.get_config()
    assert again.get_config() == warm.get_config() == WarmUp.from_config(warm.get_config()).get_config()
    np.testing.assert_array_equal(rates(again), rates(warm))


def test_a_saved_model_goes_on_with_its_warmup(tmp_path):
    x, y = make_rows()
    warm = WarmUp(schedules.CosineDecay(0.4, 20), examples=412, global_batch=103)
    model = make_mlp(keras.optimizers.SGD(warm, momentum=0.9))
    model.fit(x, y, batch_size=103, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(cosine(4) * 2 / 4, rel=1e-5)
    for one in (model, loaded):
        one.fit(x, y, batch_size=103, epochs=4, shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights_of(loaded), weights_of(model))


@pytest.mark.parametrize(
    ("after", "arguments", "message"),
    [
        ("0.4", {"steps": 3}, "WarmUp: after is '0.4'. Use a finite number from 0, or a Keras schedule."),
        (-0.1, {"steps": 3}, "WarmUp: after is -0.1. Use a finite number from 0, or a Keras schedule."),
        (0.4, {"steps": 3, "start": None}, "WarmUp: start is None. Use a finite number from 0."),
        (0.4, {}, "warm-up: no length is given. Give exactly one of steps, examples, epochs."),
        (0.4, {"examples": 10}, "warm-up: examples is 10, but global_batch is missing. Give it too."),
        (0.4, {"steps": 3, "rows": 10}, "warm-up: steps is 3, so rows (10) has no effect. Leave it out."),
    ],
)
def test_a_warmup_that_cannot_be_derived_is_refused(after, arguments, message):
    with pytest.raises(ValueError) as caught:
        WarmUp(after, **arguments)
    assert str(caught.value) == message
