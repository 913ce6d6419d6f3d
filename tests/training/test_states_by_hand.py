"""States of layers in a hand-written loop are those of one device, and an observer that cannot be is named."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence.layer_states import MeanInBranch, RunningMean
from support import jobs

import tfdist

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]


def make_model(*layers):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((jobs.WIDTH,)), *layers, keras.layers.Dense(1)])


def data(ends=(8, 16, 21, 22)):
    """Returns 22 rows in batches, by default of 8, 8, 5 and 1 rows: the last one leaves replicas without rows."""
    x, _ = jobs.make_rows(22)
    parts = np.split(x, ends[:-1])
    ragged = tf.data.Dataset.from_generator(
        lambda: iter(parts), output_signature=tf.TensorSpec([None, jobs.WIDTH], tf.float64)
    )
    return ragged.map(lambda rows: (rows, rows[:, :1]))


def train(strategy, *layers, epochs=2, **batches):
    with strategy.scope():
        model, optimizer = make_model(*layers), keras.optimizers.SGD(0.1)

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tfdist.global_mean(keras.losses.mean_squared_error(y, model(x, training=True)))
        weights = model.trainable_variables
        tfdist.apply_gradients(optimizer, tape.gradient(loss, weights), weights)

    with tfdist.open_run(None, model, optimizer, data(**batches)) as run:
        for x, y in run.batches(epochs=epochs):
            strategy.run(train_step, args=(x, y))
    return model


@pytest.mark.parametrize("replicas", [2, 3])
def test_running_means_are_those_of_one_device(make_strategy, replicas):
    def layers():
        return RunningMean(), RunningMean(after=True), RunningMean(aggregation="mean"), keras.layers.Dropout(0.0)

    one, several = train(make_strategy(1), *layers()), train(make_strategy(replicas), *layers())
    assert np.abs(np.asarray(one.layers[0].mean)).max() > 0.01
    np.testing.assert_allclose(jobs.weights_of(several), jobs.weights_of(one), rtol=0, atol=1e-9)


def test_batchnorm_of_each_replica_is_said_and_its_moving_statistics_are_averaged_by_rows(make_strategy, caplog):
    with caplog.at_level(logging.INFO, logger="tfdist"):
        norm = keras.layers.BatchNormalization(name="norm", momentum=0.5)
        # A replica without rows has no statistics, and its weights would be NaN.
        model = train(make_strategy(2), norm, epochs=1, ends=(8, 16, 22))
    assert "BatchNormalization layers norm: each replica takes the statistics of its own rows" in caplog.text
    x, _ = jobs.make_rows(22)
    expected = np.zeros(jobs.WIDTH)
    for part in np.split(x, [8, 16]):
        expected = 0.5 * expected + 0.5 * part.mean(0)
    for component in model.layers[0].moving_mean.value.values:
        np.testing.assert_allclose(component, expected, rtol=0, atol=1e-9)


def test_a_state_that_a_branch_assigns_ends_the_run_with_the_cure(make_strategy):
    with pytest.raises(RuntimeError, match=r"replica 1 differs .*mean_in_branch\w*/mean .*\(tfdist.global_sum\)"):
        train(make_strategy(2), MeanInBranch())


def test_all_that_is_tracked_comes_back_also_a_second_optimizer_that_the_loop_builds(make_strategy, tmp_path):
    def loop(folder, epochs):
        strategy = make_strategy(2)
        with strategy.scope():
            model, optimizer = make_model(), keras.optimizers.SGD(0.1)
            second, extra = keras.optimizers.Adam(0.1), {"a": [tf.Variable(tf.ones([], tf.float64))]}
        with tfdist.open_run(folder, model, optimizer, data(), track=[second, extra]) as run:
            for _ in run.batches(epochs=epochs):
                if not second.built:
                    with strategy.scope():
                        second.build(model.trainable_variables)
                for variable in (*second.variables, extra["a"][0]):
                    variable.assign(variable + tf.ones([], variable.dtype))
        return [np.asarray(variable) for variable in (*second.variables, extra["a"][0])]

    whole = loop(None, 3)
    loop(tmp_path, 2)
    for mine, theirs in zip(loop(tmp_path, 3), whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)
