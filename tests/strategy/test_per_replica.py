"""What is declared to differ between replicas differs, is saved for each, and comes back to each."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.checkpoints.checkpoint import CheckpointError
from tfdist.process.errors import UsageError

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64")]


class Bank(keras.layers.Layer):
    """Keeps the last row that a replica has seen, and counts its rows."""

    def build(self, shape):
        more = {"initializer": "zeros", "trainable": False}
        self.last = tfdist.keep_per_replica(self.add_weight(name="last", shape=shape[-1:], **more))
        self.rows = tfdist.keep_per_replica(self.add_weight(name="rows", shape=(), dtype="int64", **more))

    def call(self, x, training=False):
        if training:
            self.last.assign(x[-1])
            self.rows.assign_add(tf.shape(x, tf.int64)[0])
        return x + 0.1 * tf.convert_to_tensor(self.last)


def train(strategy, folder, epochs):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), Bank(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = jobs.make_rows(13)
    tfdist.fit(model, x, y, batch_size=6, epochs=epochs, shuffle=False, verbose=0, run_dir=folder)
    return model


def values_of(variable):
    return np.stack([part.numpy() for part in variable.value.values])


def test_each_replica_has_its_own_value_and_gets_it_back_and_a_replica_without_rows_keeps_it(make_strategy, tmp_path):
    whole = train(make_strategy(3), tmp_path / "whole", 2)
    train(make_strategy(3), tmp_path / "run", 1)
    resumed = train(make_strategy(3), tmp_path / "run", 2)
    x, _ = jobs.make_rows(13)
    # Batches of 6, 6 and 1 rows: the last row of all is the last replica's.
    np.testing.assert_array_equal(values_of(whole.layers[0].last), x[[7, 9, 12]])
    np.testing.assert_array_equal(values_of(whole.layers[0].rows), [2 * 4, 2 * 4, 2 * 5])
    for mine, theirs in zip(resumed.layers[0].weights, whole.layers[0].weights, strict=True):
        np.testing.assert_array_equal(values_of(mine), values_of(theirs))
    with pytest.raises(
        CheckpointError, match=r"bank\w*/last, \S*bank\w*/rows differ .* by 3 replicas, but there are 2"
    ):
        train(make_strategy(2), tmp_path / "run", 3)


def test_what_is_no_variable_or_has_an_aggregation_is_refused():
    with pytest.raises(UsageError, match="keep_per_replica: 3 is no variable"):
        tfdist.keep_per_replica(3)
    with pytest.raises(UsageError, match="'mean', which makes one value"):
        tfdist.keep_per_replica(keras.Variable(0.0, aggregation="mean", trainable=False))
