"""The programs of a TPU: traced as the real `TPUStrategy` traces them, and run on stand-ins for its cores."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence import runner
from support import jobs
from support.emulated_tpu import emulated
from support.tpu import make_tpu, trace

import tfdist

pytestmark = pytest.mark.slow

# One of each kind: every row of the table of equivalence is traced by tests/full/tpu_trace.py.
TRACED = (
    "optimizer: Adam + clipnorm + accumulation",
    "optimizer option: ema_overwrite_frequency + accumulation",
    "optimizer option: LossScaleOptimizer + accumulation + global_clipnorm",
    "loss: mean_with_sample_weight, weights of elements, mask",
    "layer: LSTM",
    "layer: Conv2D + BatchNormalization",
    "model: two output",
    "model: AUC, precision, accuracy",
)
BRANCHES, SCALED = TRACED[1:3]
DROPOUT, OUTPUTS = "layer: RowDropout + BatchNormalization", "model: two output"
# Cores, and what they compute: collectives in branches, what each of them assigns, and smaller batches that are padded.
RUN = (
    (1, BRANCHES),
    (1, DROPOUT),
    (1, OUTPUTS),
    (2, BRANCHES),
    (2, SCALED),
    (2, DROPOUT),
    (2, OUTPUTS),
)


@pytest.fixture
def tpu(cpus):
    """A `TPUStrategy` of two cores."""
    return make_tpu(cpus[:2])


def make_model(strategy, layer, optimizer="adam", **options):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), layer(), keras.layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer, "binary_crossentropy", **options)
    return model


def binary(rows=45):
    x, y = jobs.make_rows(rows, "float32")
    return x, (y > 0).astype("float32")[:, None]


def trace_alone(strategy, function):
    @tf.function(autograph=False)
    def program():
        return strategy.run(function)

    return trace(program)


def check(found, in_loop, once):
    """Checks what was traced: the operations, and how many programs a step starts, and a call beside them."""
    assert found.cannot_run() == []
    assert "int64" not in found.sums()
    assert found.counts == (in_loop, once)


@pytest.mark.parametrize(
    "function, why",
    [
        (tf.timestamp, "Timestamp has no kernel"),
        (lambda: tf.py_function(lambda: 1.0, [], tf.float32), "EagerPyFunc has no kernel"),
        (lambda: tf.strings.length(tf.strings.as_string(tf.random.uniform([]))), "AsString"),
    ],
)
def test_what_a_tpu_cannot_run_is_found(function, why, tpu):
    assert any(why in each for each in trace_alone(tpu, function).cannot_run())


def test_a_tpu_sums_no_int64(tpu):
    def sums():
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(1, tf.int64))

    with pytest.raises(TypeError, match="int64"):
        trace_alone(tpu, sums)


@pytest.mark.parametrize("name", TRACED)
def test_a_step_is_one_program_that_a_tpu_can_run(name, tpu):
    # The program beside it returns the metrics at the end of a call.
    check(trace(lambda: runner.run_tfdist(name, tpu)), 1, 1)


def test_evaluation_and_prediction_are_one_program_too(tpu):
    metrics = [keras.metrics.AUC(name="auc"), keras.metrics.F1Score(threshold=0.5)]
    model = make_model(tpu, keras.layers.BatchNormalization, metrics=metrics)
    x, y = binary()
    check(trace(lambda: tfdist.evaluate(model, x, y, batch_size=16, verbose=0)), 1, 1)
    check(trace(lambda: tfdist.predict(model, x, batch_size=16, verbose=0)), 0, 1)


@pytest.mark.parametrize("compression", ["bfloat16", "float16"])
def test_gradients_are_rounded_and_statistics_may_be_per_core(compression, tpu):
    model = make_model(tpu, keras.layers.BatchNormalization, optimizer="adamw")
    data = tf.data.Dataset.from_tensor_slices(binary()).batch(16, drop_remainder=True)
    options = {"compression": compression, "sync_batchnorm": False, "verbose": 0}
    found = trace(lambda: tfdist.fit(model, data, **options))
    check(found, 1, 1)
    assert compression in found.sums()


class Counter(keras.layers.Layer):
    """Counts the rows with a positive sum, and keeps their mean."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="count")
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False, name="mean")

    def call(self, x, training=False):
        if training:
            self.count.assign_add(tf.math.count_nonzero(tf.reduce_sum(x, axis=1) > 0))
            self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, axis=0))
        return x - self.mean


def test_what_layers_assign_is_combined(tpu):
    found = trace(lambda: tfdist.fit(make_model(tpu, Counter), *binary(48), batch_size=16, verbose=0))
    check(found, 1, 1)
    # The four parts of the count: no other sum is of integers.
    assert found.sums().count("int32") == 1


def test_what_layers_assign_is_that_of_one_device(cpus, make_strategy):
    def train(strategy):
        model = make_model(strategy, Counter)
        # Beyond 32 bits, and below zero.
        model.layers[0].count.assign(-(2**40))
        tfdist.fit(model, *binary(48), batch_size=16, epochs=2, verbose=0)
        return [np.asarray(variable) for variable in model.layers[0].variables]

    with emulated(cpus[:2]):
        found = train(make_tpu(cpus[:2], packs=False))
    for there, here in zip(train(make_strategy(1)), found, strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-6)


def test_strings_are_refused_with_the_cure(tpu):
    with pytest.raises(ValueError, match=r"x: a TPU computes no strings\. Make numbers of them"):
        trace(lambda: runner.run_tfdist("data: strings", tpu))


def test_eager_steps_are_refused_with_the_cure(tpu):
    with pytest.raises(ValueError, match=r"run_eagerly=True: a TPU runs compiled steps alone\. Use run_eagerly=False"):
        trace(lambda: runner.run_tfdist("execution: run_eagerly", tpu))


def run_by_hand(strategy, optimizer, rows=45, steps=None):
    """Trains by a loop of one's own; returns (the loss of each step, the weights)."""
    x, y = binary(rows)
    model = make_model(strategy, lambda: keras.layers.Dense(3, activation="tanh"))
    with strategy.scope():
        optimizer = optimizer()
    source = tfdist.data.from_arrays(x, y, global_batch=16, shuffle=False)
    losses = []

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tfdist.global_mean(keras.losses.binary_crossentropy(y, model(x, training=True)))
        weights = model.trainable_variables
        tfdist.apply_gradients(optimizer, tape.gradient(loss, weights), weights)
        return loss

    with tfdist.open_run(None, model, optimizer, source, steps_per_epoch=steps) as run:
        for x, y in run.batches(epochs=2):
            losses.append(float(strategy.experimental_local_results(strategy.run(train_step, args=(x, y)))[0]))
    return losses, jobs.weights_of(model)


def accumulating():
    return keras.optimizers.SGD(0.5, gradient_accumulation_steps=2, global_clipnorm=0.1, use_ema=True)


def test_a_loop_written_by_hand_is_one_program_a_step(tpu):
    check(trace(lambda: run_by_hand(tpu, accumulating)), 0, 1)


@pytest.mark.parametrize("cores, name", RUN)
def test_what_the_cores_compute_is_what_one_device_computes(cores, name, cpus):
    before, expected, plain = runner.run_plain(name)
    with emulated(cpus[:cores]):
        begin, found, history = runner.run_tfdist(name, make_tpu(cpus[:cores], packs=False))
    np.testing.assert_array_equal(begin, before)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    for key, values in plain.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5, err_msg=key)


def test_a_loop_by_hand_leaves_the_smaller_batch_out_and_says_so(cpus, make_strategy, float64, caplog):
    with emulated(cpus[:2]), caplog.at_level("INFO", "tfdist"):
        found = run_by_hand(make_tpu(cpus[:2], packs=False), accumulating)
    assert "the last, smaller batch of each epoch is left out, because a TPU needs one shape and a loop" in caplog.text
    expected = run_by_hand(make_strategy(1), accumulating, rows=32)
    for there, here in zip(expected, found, strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-9)
