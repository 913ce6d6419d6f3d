"""Each private name that tfdist uses does on this version what tfdist takes it to do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import nn as keras_nn
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.losses import loss as keras_losses

from tfdist.internals.access import models, runtime
from tfdist.internals.access.callbacks import looks_at_batches, saves_every, steps_until_saving
from tfdist.internals.access.replica import Rows, rows_are
from tfdist.internals.patches import optimizers, statistics

pytestmark = pytest.mark.core


def make_model():
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_rows(low, high, total):
    return Rows(*(tf.constant(number, tf.int64) for number in (high - low, total, low)))


BATCH = (tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32))


def test_promise_37_build_creates_every_variable():
    model = make_model()
    models.build(model, BATCH)
    assert model.optimizer.built
    names = [variable.name for variable in models.metric_variables(model)]
    # The loss and the accuracy, each a total and a count.
    assert names == ["total", "count", "total", "count"]


def test_promise_37_a_subclassed_model_is_built_from_the_spec_alone():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Net()
    model.compile("adam", loss="mse")
    models.build(model, (tf.TensorSpec([None, 4]), tf.TensorSpec([None, 2])))
    assert model.dense.kernel.shape == (4, 2)
    assert len(model.optimizer.variables) == 2 + 2 * 2


def test_promise_37_each_compile_has_a_token_of_its_own():
    model = make_model()
    assert models.is_compiled(model)
    first = models.compile_token(model)
    assert models.compile_token(model) is first
    model.compile("sgd", loss="mse")
    assert models.compile_token(model) is not first
    assert not models.is_compiled(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))


def test_promise_37_batch_norms_are_found_in_nested_models():
    inner = make_model()
    outer = keras.Sequential([keras.Input((4,)), inner])
    assert [layer.name for layer in models.batch_norms(outer)] == [inner.layers[2].name]


def test_promise_37_the_runtime_has_started_once_a_tensor_was_made():
    tf.constant(1)
    assert runtime.has_started()


def test_promise_37_the_default_strategy_is_where_tensorflow_puts_what_no_strategy_places(monkeypatch, make_strategy):
    default = tf.distribute.get_strategy()
    assert runtime.is_on_cpus(default)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    assert not runtime.is_on_cpus(default)
    assert runtime.is_on_cpus(make_strategy(2))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_promise_37_losses_over_replicas_add_up_to_keras_own(make_strategy, reduction, masked, weighted):
    strategy = make_strategy(3)
    rng = np.random.RandomState(0)
    truth, guess = rng.rand(7, 2, 3), rng.rand(7, 2, 3)
    weights = rng.rand(7, 2) if weighted else None
    mask = rng.rand(7, 2) > 0.4 if masked else None
    bounds = [(0, 4), (4, 7), (0, 0)]

    def loss_of(low, high):
        part = tf.constant(guess[low:high])
        if masked:
            part._keras_mask = tf.constant(mask[low:high])
        loss_fn = keras.losses.MeanSquaredError(reduction=reduction, dtype="float64")
        return loss_fn(truth[low:high], part, None if weights is None else weights[low:high])

    def replica_loss():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        low, high = bounds[int(index)]
        rows = make_rows(low, high, 7)
        with rows_are(rows):
            # The third replica has no rows, and borrows one.
            loss = loss_of(low, max(high, low + 1))
            return tf.math.multiply_no_nan(loss, rows.share(loss.dtype))

    with statistics.global_statistics():
        parts = strategy.experimental_local_results(strategy.run(replica_loss))
    assert sum(parts).numpy() == pytest.approx(loss_of(0, 7).numpy(), rel=1e-12)


def test_promise_37_moments_over_replicas_are_those_of_all_rows(make_strategy):
    strategy = make_strategy(3)
    rows = np.random.RandomState(0).randn(5, 2, 4)
    bounds = [(0, 1), (1, 5), (0, 0)]

    def replica_moments():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        low, high = bounds[int(index)]
        with rows_are(make_rows(low, high, 5)):
            return keras.ops.moments(tf.constant(rows[low : max(high, low + 1)]), axes=[0, 1], synchronized=True)

    with statistics.global_statistics():
        mean, variance = strategy.run(replica_moments)
    for part in strategy.experimental_local_results(mean):
        np.testing.assert_allclose(part, rows.mean((0, 1)), atol=1e-12)
    for part in strategy.experimental_local_results(variance):
        np.testing.assert_allclose(part, rows.var((0, 1)), atol=1e-12)


def test_promise_37_keras_is_itself_again_afterwards():
    names = ["reduce_values", "apply_mask", "scale_loss_for_distribution", "unscale_loss_for_distribution"]
    before = [getattr(keras_losses, name) for name in names] + [keras_nn._compute_moments_sync]
    call = keras.layers.BatchNormalization.call
    owned = {name: getattr(TFOptimizer, name) for name in ("_backend_update_step", "_apply_weight_decay", "assign_add")}
    assign = keras.Variable._direct_assign
    with pytest.raises(KeyError), statistics.global_statistics(), optimizers.gradients_already_reduced():
        assert keras_losses.reduce_values is not before[0]
        assert keras.layers.BatchNormalization.call is not call
        assert all(getattr(TFOptimizer, name) is not own for name, own in owned.items())
        assert keras.Variable._direct_assign is not assign
        raise KeyError
    after = [getattr(keras_losses, name) for name in names] + [keras_nn._compute_moments_sync]
    assert after == before
    assert keras.layers.BatchNormalization.call is call
    assert all(getattr(TFOptimizer, name) is own for name, own in owned.items())
    assert keras.Variable._direct_assign is assign


def test_promise_37_a_keras_optimizer_does_not_reduce_a_second_time(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        weight = keras.Variable([1.0])
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build([weight])
    with optimizers.gradients_already_reduced():
        strategy.run(tf.function(lambda: optimizer.apply([tf.constant([0.25])], [weight])))
    np.testing.assert_array_equal(weight.numpy(), [0.75])


def test_promise_37_a_scalar_is_weighted_by_its_rows(make_strategy):
    strategy = make_strategy(3)
    with strategy.scope():
        metric = keras.metrics.Mean()
    bounds, values = [(0, 1), (1, 5), (0, 0)], [3.0, 8.0, 100.0]

    def replica_update():
        index = int(tf.distribute.get_replica_context().replica_id_in_sync_group)
        with rows_are(make_rows(*bounds[index], 5)):
            metric.update_state(values[index])

    with statistics.global_statistics():
        strategy.run(replica_update)
        strategy.run(replica_update)
    assert float(metric.result()) == pytest.approx((3 * 1 + 8 * 4) / 5)
    # As on one device, where each batch's scalar counts once.
    assert float(strategy.reduce("SUM", metric.count.value, axis=None)) == pytest.approx(2)
    metric.update_state(1.0)


def test_promise_37_the_steps_until_keras_saves_are_those_until_keras_saves():
    callback = keras.callbacks.ModelCheckpoint("unused.keras", save_freq=5)
    saved = []
    callback._save_model = lambda batch, **_: saved.append(batch)
    callback.on_epoch_begin(0)
    assert (saves_every(callback), steps_until_saving(callback)) == (5, 5)
    for batch in range(9):
        left = steps_until_saving(callback)
        callback.on_train_batch_end(batch)
        assert (saved[-1:] == [batch]) == (left == 1)
    assert saved == [4]
    assert saves_every(keras.callbacks.ModelCheckpoint("unused.keras")) is None
    assert saves_every(keras.callbacks.BackupAndRestore("unused", save_freq=4)) == 4


@pytest.mark.parametrize(
    ("options", "looks"),
    [({}, False), ({"update_freq": 3}, True), ({"profile_batch": 2}, True), ({"profile_batch": (2, 4)}, True)],
)
def test_promise_37_keras_tensorboard_shows_whether_it_looks_at_batches(options, looks, tmp_path):
    assert looks_at_batches(keras.callbacks.TensorBoard(str(tmp_path), **options)) is looks
