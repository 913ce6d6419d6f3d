"""Rows and sums over all replicas: values and gradients against one device, by finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.internals.access.replica import Rows, compiled_by_xla, rows_are

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]
# The rows of three uneven replicas; the last one has none.
SIZES = (3, 2, 0)
X = np.random.default_rng(0).normal(size=(5, 3))


def spread(x):
    """Returns a scalar in which every row depends on every other one."""
    x = x - tf.reduce_mean(x, axis=0)
    return tf.reduce_sum(tf.matmul(x, x, transpose_a=True) ** 2)


def own(strategy, array, sizes=SIZES):
    """Returns per-replica values: the rows of each replica."""
    parts = np.split(array, np.cumsum(sizes)[:-1])
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


def finite_differences(function, array, step=1e-6):
    """Returns the gradient of a function of an array, by central differences."""
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        up, down = array.copy(), array.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (float(function(tf.constant(up))) - float(function(tf.constant(down)))) / (2 * step)
    return gradient


def gradients_by_hand(strategy, loss_of, weight):
    """Returns (loss on each replica, the gradient by the weight as a hand-written loop sums it)."""

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = loss_of(x, weight)
        return loss, tfdist.reduce_gradients(tape.gradient(loss, [weight]))[0]

    losses, gradient = strategy.run(step, args=(own(strategy, X),))
    results = strategy.experimental_local_results
    return [float(loss) for loss in results(losses)], results(gradient)


def of_all_rows(x, weight):
    return tfdist.global_loss(lambda each: spread(each * weight), x)


def of_scaled_rows(x, weight):
    return tfdist.global_loss(spread, x * weight)


def of_keras_loss(x, weight):
    return tfdist.global_loss(keras.losses.MeanSquaredError(), x, x * weight)


def of_mean(x, weight):
    return tfdist.global_mean(tf.reduce_sum((x * weight) ** 2, axis=1))


def of_gathered_rows(x, weight):
    """Each replica takes its rows' part of a loss whose other rows come from all replicas."""
    whole = tfdist.gather_rows(x * weight)
    return tfdist.global_mean(tf.reduce_sum(tf.matmul(x * weight, whole, transpose_b=True) ** 2, axis=1))


def of_sums(x, weight):
    """Each replica's rows around the mean of all."""
    total, count = tfdist.global_sum((tf.reduce_sum(x * weight, axis=0), tf.cast(tf.shape(x)[0], x.dtype)))
    return tfdist.global_mean(tf.reduce_sum((x * weight - total / count) ** 4, axis=1))


@pytest.mark.parametrize("loss_of", [of_all_rows, of_scaled_rows, of_keras_loss, of_mean, of_gathered_rows, of_sums])
def test_a_loop_by_hand_gets_the_gradient_of_one_device(make_strategy, loss_of):
    strategy = make_strategy(3)
    with strategy.scope():
        weight = tf.Variable([1.0, -0.5, 2.0], dtype="float64")
    losses, gradients = gradients_by_hand(strategy, loss_of, weight)

    def alone(value):
        return loss_of(tf.constant(X), value)

    expected = finite_differences(alone, weight.numpy())
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(losses, [float(alone(weight.numpy()))] * 3, rtol=1e-12)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("loss_of", [of_all_rows, of_scaled_rows, of_keras_loss, of_mean, of_gathered_rows, of_sums])
def test_the_step_of_fit_gets_the_gradient_of_one_device(make_strategy, loss_of, padded):
    if padded and loss_of is of_sums:
        pytest.skip("padding cannot be taken out of a sum")
    strategy = make_strategy(3)
    with strategy.scope():
        weight = tf.Variable([1.0, -0.5, 2.0], dtype="float64")

    @tf.function
    def step(x, mine, first):
        with rows_are(Rows(mine, tf.constant(5, tf.int64), first, padded)), tf.GradientTape() as tape:
            rows = Rows(mine, tf.constant(5, tf.int64), first, padded)
            # The step weights the loss of a replica by its share of the rows.
            loss = loss_of(x, weight) * rows.share(tf.float64)
        return loss, tfdist.reduce_gradients(tape.gradient(loss, [weight]))[0]

    # The last replica borrows a row; with padding, each has three.
    parts = [X[:3], X[3:], X[:1]]
    if padded:
        parts = [np.concatenate([part, np.full((3 - len(part), 3), 7.0)]) for part in parts]
    spread_over = strategy.experimental_distribute_values_from_function
    values = [
        spread_over(lambda context, of=of: tf.constant(of[context.replica_id_in_sync_group]))
        for of in (parts, np.int64(SIZES), np.int64([0, 3, 5]))
    ]
    losses, gradients = strategy.run(step, args=tuple(values))

    def alone(value):
        return loss_of(tf.constant(X), value)

    np.testing.assert_allclose(sum(strategy.experimental_local_results(losses)), alone(weight.numpy()), rtol=1e-12)
    expected = finite_differences(alone, weight.numpy())
    np.testing.assert_allclose(strategy.experimental_local_results(gradients)[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "int64", "uint8", "bool", "complex64"])
def test_rows_of_each_type_are_gathered_in_their_order(make_strategy, dtype):
    strategy = make_strategy(3)
    array = tf.cast(tf.range(5), dtype) if dtype != "bool" else tf.range(5) % 2 == 0
    whole = strategy.run(tf.function(tfdist.gather_rows), args=(own(strategy, array.numpy()),))
    for rows in strategy.experimental_local_results(whole):
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows.numpy(), array.numpy())


def test_rows_that_are_not_finite_leave_the_others_as_they_are(make_strategy):
    strategy = make_strategy(2)
    array = np.array([np.inf, 1.0, np.nan, -np.inf])
    whole = strategy.run(tfdist.gather_rows, args=(own(strategy, array, (1, 3)),))
    np.testing.assert_array_equal(strategy.experimental_local_results(whole)[0], array)


def test_on_one_device_the_operations_return_what_they_are_given():
    x = tf.constant(X)
    np.testing.assert_array_equal(tfdist.gather_rows({"a": x})["a"], X)
    np.testing.assert_array_equal(tfdist.global_sum(x), X)
    assert float(tfdist.global_loss(spread, x)) == float(spread(x))


def test_what_has_no_rows_or_returns_none_is_refused(make_strategy):
    with pytest.raises(ValueError, match=r"gather_rows: a value has no rows .* Received: shape \(\)"):
        tfdist.gather_rows(1.0)
    with pytest.raises(ValueError, match=r"Received: shape .*, type string"):
        tfdist.gather_rows(tf.constant(["a"]))
    with pytest.raises(ValueError, match=r"global_loss: the function returned shape \(5,\). Return a scalar"):
        tfdist.global_loss(lambda x: x[:, 0], X)
    with pytest.raises(ValueError, match="no tensor with rows was given"):
        tfdist.global_loss(lambda x: 0.0, None)
    with (
        make_strategy(2).scope(),
        pytest.raises(RuntimeError, match=r"gather_rows: called outside .* strategy.run"),
    ):
        tfdist.gather_rows(X)


def test_xla_and_a_sum_of_padding_are_refused(make_strategy):
    strategy = make_strategy(2)

    def with_xla(x):
        with compiled_by_xla():
            return tfdist.gather_rows(x)

    with pytest.raises(ValueError, match=r"calls tfdist\.gather_rows, and XLA cannot compile its collective"):
        strategy.run(with_xla, args=(tf.constant(X),))
    one = tf.constant(1, tf.int64)
    with rows_are(Rows(one, one, one, True)), pytest.raises(ValueError, match="padding rows cannot be taken out"):
        tfdist.global_sum(1.0)
